"""The picture of a certificate, as PNG bytes, for those who do not open its page.

The house style is in `levibot_core.models.plot_style`; the page's own drawings are in `.certificate_charts`.
"""

import numpy as np

from levibot_core.models.plot_style import BAD, GOOD, MUTED, PRIMARY, dress, new_figure, png_bytes
from levibot_core.validation.certificate import Certificate
from levibot_core.validation.certificate_verdict import ALLOWED_SHARE


def certificate_png(certificate: Certificate) -> bytes:
    """Share promoted by planted edge with its exact interval, and how close every market came to a promotion."""
    figure = new_figure(11.0, 4.2)
    power, evidence = figure.subplots(1, 2, width_ratios=(4, 5))
    names = ["none", *(f"{share.edge:g}" for share in certificate.power)]
    shares = [certificate.share, *(share.share for share in certificate.power)]
    lower = [0.0, *(share.lower_95 for share in certificate.power)]
    upper = [certificate.upper_bound_95, *(share.upper_95 for share in certificate.power)]
    for place, (share, low, high) in enumerate(zip(shares, lower, upper, strict=True)):
        color = PRIMARY if place else BAD
        power.plot([place, place], [100 * low, 100 * high], color=color, linewidth=3.0)
        power.plot([place], [100 * share], "o", color=color, markersize=8)
    power.axhline(100 * ALLOWED_SHARE, color=MUTED, linestyle="--", linewidth=1.2)
    power.set_xticks(range(len(names)), names)
    power.set_ylim(-4, 104)
    dress(power, "Promoted, by planted edge", "edge; none: false promotions", "% of markets, with 95 %")
    kinds = [*certificate.kinds, *certificate.power]
    for place, kind in enumerate(kinds[::-1]):
        found = [one for one in certificate.outcomes if one.market.name == kind.name]
        # Dots of one value would hide one another.
        heights = place + np.linspace(-0.22, 0.22, len(found)) if len(found) > 1 else [float(place)]
        colors = [_color(one.promoted, one.market.edge) for one in found]
        evidence.scatter([one.evidence for one in found], heights, color=colors, s=22)
    evidence.axvline(1.0, color=MUTED, linestyle="--", linewidth=1.2)
    evidence.set_yticks(range(len(kinds)), [kind.name for kind in kinds][::-1])
    dress(evidence, "Evidence of every market", "promoted from 1 on; red: promoted without an edge")
    return png_bytes(figure)


def _color(promoted: bool, edge: float) -> str:
    if not promoted:
        return MUTED
    return GOOD if edge else BAD
