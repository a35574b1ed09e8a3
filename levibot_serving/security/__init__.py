"""Who is let in, to what, and how often. The files behind it are in `levibot_core.security`."""
