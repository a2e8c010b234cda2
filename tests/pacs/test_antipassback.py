"""Who was last seen where, against a model that remembers every move."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pacs.antipassback import Whereabouts
from pacs.identifiers import AreaId, CredentialId

PEOPLE = [CredentialId(bytes([number]) * 16) for number in range(3)]
HALL, YARD = AreaId("hall"), AreaId("yard")
moves = st.tuples(
    st.just("moved"), st.sampled_from(PEOPLE), st.sampled_from([HALL, YARD, None]), st.integers(0, 100)
)
forgiven = st.tuples(st.just("forgiven"), st.sampled_from([HALL, YARD]))


@given(st.lists(st.one_of(moves, forgiven), max_size=30))
def test_only_the_last_sighting_counts(history: list[tuple[object, ...]]) -> None:
    """Somebody is inside an area exactly if seen entering it last, and nothing was forgiven since."""
    whereabouts = Whereabouts()
    model: dict[CredentialId, tuple[AreaId, int]] = {}
    for step in history:
        match step:
            case ("moved", CredentialId() as person, into, int(at_s)):
                area = AreaId(into) if isinstance(into, str) else None
                before = model.pop(person, None)
                assert whereabouts.moved(person, area, at_s) == (before[0] if before else None)
                if area:
                    model[person] = (area, at_s)
            case (_, AreaId() as area):
                inside = [person for person, (where, _) in model.items() if where == area]
                assert whereabouts.forgive(area) == len(inside)
                for person in inside:
                    del model[person]
    for person in PEOPLE:
        for area in (HALL, YARD):
            entered = model.get(person)
            expected = 200.0 - entered[1] if entered and entered[0] == area else None
            assert whereabouts.inside_s(person, area, 200.0) == expected


def test_no_area_knows_nobody() -> None:
    """A door that leads into no area never knows anybody inside."""
    whereabouts = Whereabouts()
    whereabouts.moved(PEOPLE[0], HALL, 1.0)
    assert whereabouts.inside_s(PEOPLE[0], None, 2.0) is None
    assert whereabouts.inside_s(PEOPLE[1], HALL, 2.0) is None
