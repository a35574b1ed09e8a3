"""What a forecast is worth acting on. Trading itself is the engines' work."""
