"""What the panels of the console show, one module each: plain values gathered from services and reports, no markup."""
