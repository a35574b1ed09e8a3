"""The drawings on a certificate's page, made from its own numbers.

The pieces they are made of are in `levibot_core.models.svg`.
"""

from collections.abc import Sequence
from html import escape

from levibot_core.models.svg import Scale, drawing, grid_line, label, number, ticks
from levibot_core.validation.certificate import Certificate, MarketOutcome, Share

_WIDTH = 460.0


def power_svg(certificate: Certificate) -> str:
    """Share promoted by planted edge with its exact 95 % interval; at 0, the false promotions with theirs."""
    widest = max((share.edge for share in certificate.power), default=0.1) * 1.06
    across, upright = Scale(-0.02 * widest, widest, 52, _WIDTH - 16), Scale(0.0, 1.0, 262, 18)
    parts = [grid_line(52, upright(tick), _WIDTH - 16, upright(tick)) for tick in (0, 0.25, 0.5, 0.75, 1)]
    parts += [label(44, upright(tick) + 4, f"{tick:.0%}", "end") for tick in (0, 0.5, 1)]
    parts += [label(across(share.edge), 282, number(share.edge), "middle") for share in certificate.power]
    parts += [label(across(0), 282, "none", "middle"), label(_WIDTH / 2, 302, "planted edge", "middle")]
    points = " ".join(f"{across(share.edge):.1f},{upright(share.share):.1f}" for share in certificate.power)
    parts.append(f'<polyline points="{points}" class="line"/>')
    for share in certificate.power:
        told = f"{share.name}: {share.promoted} of {share.markets} promoted"
        parts += _bar(across(share.edge), upright, share.share, share.lower_95, share.upper_95, told, "whisker", "dot")
    false = f"no edge: {certificate.false_promotions} of {certificate.markets} promoted"
    bound = certificate.upper_bound_95
    parts += _bar(across(0), upright, certificate.share, 0.0, bound, false, "falsebar", "falsedot")
    return drawing(_WIDTH, 310, "Share of markets promoted, by planted edge", parts)


def evidence_svg(certificate: Certificate) -> str:
    """Every market as a dot: how much of the evidence that a promotion needs its candidate had."""
    rows: list[Share] = [*certificate.kinds, *certificate.power]
    values = [outcome.evidence for outcome in certificate.outcomes]
    low, high = min(*values, 0.0) - 0.15, max(*values, 1.0) + 0.15
    step, top = 46.0, 28.0
    bottom = top + step * len(rows)
    scale = Scale(low, high, 16, _WIDTH - 16)
    parts = [grid_line(scale(tick), top - 8, scale(tick), bottom) for tick in ticks(low, high, 6)]
    parts += [label(scale(tick), bottom + 17, number(tick), "middle") for tick in ticks(low, high, 6)]
    parts += [
        f'<line x1="{scale(1.0):.1f}" y1="{top - 8:.1f}" x2="{scale(1.0):.1f}" y2="{bottom:.1f}" class="base"/>',
        label(scale(1.0), top - 13, "promoted from here on", "middle"),
    ]
    for place, row in enumerate(rows):
        parts.append(label(16, top + step * place + 13, escape(row.name), "start"))
        parts += _dots([one for one in certificate.outcomes if one.market.name == row.name], scale, top + step * place)
    return drawing(_WIDTH, bottom + 26, "Evidence of every market", parts)


def _dots(outcomes: Sequence[MarketOutcome], scale: Scale, top: float) -> list[str]:
    return [
        f'<circle cx="{scale(one.evidence):.1f}" cy="{top + 28:.1f}" r="5" '
        f'class="{"falsedot" if one.promoted and not one.market.edge else "run"}"><title>seed {one.market.seed}: '
        f"{one.evidence:.2f}, {one.verdict}</title></circle>"
        for one in outcomes
    ]


def _bar(
    x: float, upright: Scale, share: float, lower: float, upper: float, told: str, line: str, dot: str
) -> list[str]:
    return [
        f'<line x1="{x:.1f}" y1="{upright(lower):.1f}" x2="{x:.1f}" y2="{upright(upper):.1f}" class="{line}"/>',
        f'<circle cx="{x:.1f}" cy="{upright(share):.1f}" r="6" class="{dot}"><title>{escape(told)}</title></circle>',
    ]
