"""Against SoftHSM, which is a token of PKCS#11 in software."""

from __future__ import annotations

import gc
import json
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA384
from cryptography.x509.verification import PolicyBuilder, Store
from hypothesis import given
from hypothesis import strategies as st

from pacs.errors import MalformedData, StoreError
from provisioning.cli import main
from provisioning.pkcs11_keys import KeyAddress, KeyToken, TokenAccess
from provisioning.rotation import stated
from provisioning.site import Site

MODULES = (
    "/usr/lib/softhsm/libsofthsm2.so",
    "/usr/lib64/softhsm/libsofthsm2.so",
    "/opt/homebrew/lib/softhsm/libsofthsm2.so",
)
MODULE = next((Path(path) for path in MODULES if Path(path).is_file()), None)
softhsm = pytest.mark.skipif(
    MODULE is None or shutil.which("softhsm2-util") is None,
    reason="no SoftHSM here (make system installs it)",
)


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def said(result: Result) -> dict[str, Any]:
    assert result.exit_code == 0, result.output
    found: dict[str, Any] = json.loads(result.stdout)
    return found


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Two tokens, ``safe`` and ``desk``, each with the PIN in the file of its name."""
    directory = tmp_path_factory.mktemp("tokens")
    (directory / "tokens").mkdir()
    (directory / "softhsm2.conf").write_text(f"directories.tokendir = {directory}/tokens\n")
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("SOFTHSM2_CONF", str(directory / "softhsm2.conf"))
        for label, pin in (("safe", "87654321"), ("desk", "12345678")):
            make = ["softhsm2-util", "--init-token", "--free", "--label", label, "--pin", pin]
            subprocess.run([*make, "--so-pin", "00000000"], check=True, capture_output=True)
            (directory / label).write_text(f"{pin}\n")
            (directory / label).chmod(0o600)
        yield directory


def reached(place: Path, label: str) -> list[object]:
    assert MODULE is not None
    return ["--pkcs11-module", MODULE, "--pin-file", place / label]


@pytest.fixture(scope="module")
def directory(place: Path) -> Path:
    """A site whose root is in one token and whose card issuer is in another."""
    made = place / "site"
    tokens = ["--root-token", "safe", "--root-pin-file", place / "safe", "--card-issuer-token", "desk"]
    said(
        run("site", "create", made, "--site", "wilgenoord", *tokens, *reached(place, "desk"), "--format=json")
    )
    said(run("card", "keys", "add-batch", "SIM0", "--simulated", "--site-dir", made, "--format=json"))
    return made


@pytest.fixture
def token(place: Path) -> KeyToken:
    """The desk's, logged in to."""
    assert MODULE is not None
    gc.collect()  # sessions of commands that failed, whose end logs out
    return TokenAccess(module=MODULE, pin_file=place / "desk").open("desk")


@softhsm
def test_a_site_whose_keys_are_in_tokens(place: Path, directory: Path, tmp_path: Path) -> None:
    """Root and card issuer are in no file; what they certify is believed: a card by a whole tap, a device by its chain."""
    names = {path.name for path in directory.rglob("*.key.pem")}
    assert not names & {"root.key.pem", "card-issuer.key.pem"}
    assert not (directory / "root").exists()
    file = shlex.quote(str(tmp_path / "card.json"))
    card = f"{shlex.quote(sys.executable)} -m simulator card --stdio --kind blank --file {file}"
    at = ["--site-dir", directory, "--card-process", card, "--format=json"]
    issued = said(run("card", "issue", *at, *reached(place, "desk")))
    assert said(run("card", "show", *at))["credential_id"] == issued["credential_id"]
    said(run("reader", "add", "c-1", "--door", "a", "--offline", "--site-dir", directory, "--format=json"))
    leaf, *above = x509.load_pem_x509_certificates(
        (directory / "controllers" / "c-1" / "device.cert.pem").read_bytes()
    )
    root = x509.load_pem_x509_certificate((directory / "root.cert.pem").read_bytes())
    verifier = PolicyBuilder().store(Store([root])).build_client_verifier()
    assert len(verifier.verify(leaf, above).chain) == 3


@softhsm
def test_the_root_in_its_token_certifies_again(place: Path, directory: Path) -> None:
    """It is found by what site.toml says, and its public key is that of root.cert.pem."""
    assert MODULE is not None
    root = Site.open(directory).root(tokens=TokenAccess(module=MODULE, pin_file=place / "safe"))
    assert root.key.public_key() == root.certificate.public_key()
    with pytest.raises(StoreError, match=r"pkcs11:token=safe;object=wilgenoord%20root: .* --pkcs11-module"):
        Site.open(directory).root()


@softhsm
def test_a_key_never_leaves_its_token(token: KeyToken) -> None:
    """The token was told so when the key was made there, and refuses its number to whoever is logged in."""
    import pkcs11

    key = token.make_key("never")
    attribute = pkcs11.Attribute
    for name in (attribute.SENSITIVE, attribute.ALWAYS_SENSITIVE, attribute.NEVER_EXTRACTABLE):
        assert key._private[name] is True
    assert key._private[attribute.EXTRACTABLE] is False
    with pytest.raises(pkcs11.AttributeSensitive):
        key._private[attribute.VALUE]
    for asked in (key.private_numbers, key.private_bytes, key.exchange):
        with pytest.raises(StoreError, match="stays in its token"):
            asked()
    with pytest.raises(StoreError, match="ECDSA with SHA-256 only"):
        key.sign(b"", ec.ECDSA(SHA384()))
    with pytest.raises(StoreError, match="has one already"):
        token.make_key("never")


@softhsm
def test_a_site_that_cannot_be_made_leaves_no_key_in_a_token(
    place: Path, token: KeyToken, tmp_path: Path
) -> None:
    """The key made before the failure is gone again."""
    import pkcs11

    make = ["site", "create", tmp_path / "s", "--site", "other", "--card-issuer-token", "desk"]
    refused = run(*make, "--broker-host", "höb.example", *reached(place, "desk"))
    assert (refused.exit_code, "höb.example" in refused.output) == (1, True), refused.output
    labels = {each[pkcs11.Attribute.LABEL] for each in token.session.get_objects()}
    assert not [label for label in labels if label.startswith("other")]


@softhsm
@pytest.mark.parametrize(
    ("label", "pin", "said"),
    [
        ("nowhere", "12345678", "token 'nowhere': not there; connect it, or name another: 'desk', 'safe'"),
        ("safe", "11111111", "token 'safe': the PIN is wrong"),
    ],
)
def test_a_token_that_does_not_open_says_why(
    place: Path, tmp_path: Path, label: str, pin: str, said: str
) -> None:
    """By a dry run already, in a process that is not logged in."""
    (tmp_path / "pin").write_text(pin)
    (tmp_path / "pin").chmod(0o600)
    make = ["site", "create", tmp_path / "s", "--site", "s", "--root-token", label, "--dry-run"]
    program = [sys.executable, "-m", "provisioning.cli"]
    refused = subprocess.run(
        [*program, *map(str, [*make, *reached(tmp_path, "pin")])], capture_output=True, text=True, check=False
    )
    assert (refused.returncode, said in refused.stderr) == (1, True), refused.stderr


@softhsm
def test_a_backup_says_what_it_cannot_hold(place: Path, directory: Path, tmp_path: Path) -> None:
    """Keys in tokens are in no backup, and it names them and where they are."""
    backup = ["site", "backup", directory, "--out", tmp_path / "b", "--dry-run", "--format=json"]
    assert [each.partition(",")[0] for each in said(run(*backup))["lacks"]] == [
        "the key of the root",
        "the key of the card issuer",
    ]


@softhsm
def test_a_root_in_its_token_is_followed_by_another_there(place: Path, directory: Path) -> None:
    """The new root's key is made beside the old one's, certified by it, and no file holds it."""
    assert MODULE is not None
    before = x509.load_pem_x509_certificate((directory / "root.cert.pem").read_bytes())
    said(run("key", "rotate", "root", "--site-dir", directory, *reached(place, "safe"), "--format=json"))
    gc.collect()
    changed = Site.open(directory)
    root = changed.root(tokens=TokenAccess(module=MODULE, pin_file=place / "safe"))
    assert root.certificate.public_key() == root.key.public_key() != before.public_key()
    statement = stated(changed)
    assert statement is not None
    assert statement.root_change is not None
    assert not {path.name for path in directory.rglob("*.key.pem")} & {"root.key.pem"}


def test_without_the_library_it_is_said_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only tokens need it: the message names the extra."""
    monkeypatch.setitem(sys.modules, "pkcs11", None)
    pin = tmp_path / "pin"
    pin.write_text("12345678")
    pin.chmod(0o600)
    make = ["site", "create", tmp_path / "s", "--site", "s", "--root-token", "safe"]
    refused = run(*make, "--pkcs11-module", tmp_path / "module.so", "--pin-file", pin)
    assert (refused.exit_code, "pip install 'drempel[pkcs11]'" in refused.output) == (1, True), refused.output


@given(st.text(min_size=1), st.text(min_size=1))
def test_an_address_can_be_read_again(token: str, label: str) -> None:
    """Whatever characters a label has (RFC 7512 §2.3)."""
    address = KeyAddress(token=token, label=label)
    assert KeyAddress.parse(str(address)) == address


@given(st.text())
def test_any_text_is_an_address_or_refused(text: str) -> None:
    """What is no such address is refused by name."""
    try:
        KeyAddress.parse(text)
    except MalformedData:
        return
    assert text.startswith("pkcs11:")
