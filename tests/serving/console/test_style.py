"""Colours that can be read: the contrast that WCAG 2.2 asks of text at level AA, on light and on dark."""

import re

import pytest

from levibot_serving.console.pages import static_files

# What stands on what; 4.5 is asked of text of any size.
PAIRS = [
    *((text, ground) for text in ("ink", "muted", "primary", "good", "bad") for ground in ("paper", "soft")),
    *((kind, f"{kind}-wash") for kind in ("good", "bad", "warn")),
    ("ink", "warn-wash"),
    ("paper", "bad"),
    ("paper", "primary"),
    ("muted", "soft"),
]


def _colours(dark: bool) -> dict[str, str]:
    sheet = static_files()["console.css"].content.decode()
    found: dict[str, str] = {}
    for before, block in re.findall(r"(@media \(prefers-color-scheme: dark\) \{\s*)?:root \{([^}]*)\}", sheet):
        if not before or dark:
            found |= dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{3,6})", block))
    return found


def _luminance(colour: str) -> float:
    digits = colour[1:] if len(colour) == 7 else "".join(2 * digit for digit in colour[1:])
    parts = [int(digits[place : place + 2], 16) / 255 for place in (0, 2, 4)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize(("text", "ground"), PAIRS)
def test_text_can_be_read_on_its_ground(text: str, ground: str, dark: bool) -> None:
    colours = _colours(dark)
    lighter, darker = sorted((_luminance(colours[text]), _luminance(colours[ground])), reverse=True)
    assert (lighter + 0.05) / (darker + 0.05) >= 4.5
