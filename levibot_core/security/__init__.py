"""Who may do what: users, passwords, signing keys, sessions. Files of a home; no web framework."""
