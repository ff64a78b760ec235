"""Messages that are held back for a time (docs/delay.md): imported by who has an exchange that does that."""
