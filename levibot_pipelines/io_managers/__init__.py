"""How values pass between assets. Tables pass through the lake; only small references pass here."""
