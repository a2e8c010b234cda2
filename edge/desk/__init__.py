"""The reader beside a desk's computer or in a kiosk: what a card answers goes to the hub, and nothing comes back."""
