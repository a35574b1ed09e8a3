"""The false-promotion certificate, every night on a few markets."""
