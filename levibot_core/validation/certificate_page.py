"""The page of a certificate: one file that needs nothing from outside. It measures nothing itself.

The layout is `certificate.html.j2`, the drawings are in `.certificate_charts`, the style is that of the model card.
"""

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from levibot_core.validation.certificate import Certificate
from levibot_core.validation.certificate_charts import evidence_svg, power_svg


def certificate_html(certificate: Certificate) -> str:
    """The certificate as a page."""
    environment = Environment(
        loader=ChoiceLoader([PackageLoader("levibot_core.validation", "."), PackageLoader("levibot_core.models", ".")]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
    )
    environment.filters["percent"] = percent
    return environment.get_template("certificate.html.j2").render(
        certificate=certificate,
        platform=certificate.platform,
        verdict=verdict(certificate),
        hours=certificate.processor_seconds / 3600,
        # Made from figures alone: text in them is escaped where they are made.
        drawings={"power": Markup(power_svg(certificate)), "evidence": Markup(evidence_svg(certificate))},  # noqa: S704
    )


def verdict(certificate: Certificate) -> str:
    """What a person has to know first, in one sentence."""
    found = certificate.false_promotions
    many = {0: "none was", 1: "1 was"}.get(found, f"{found} were")
    return (
        f"Of {certificate.markets} markets in which nothing can be forecast, {many} promoted: with 95 % confidence, "
        f"the platform promotes a model without skill in at most {percent(certificate.upper_bound_95)} of such markets."
    )


def percent(share: float) -> str:
    """A share for people: one decimal below a tenth."""
    return f"{100 * share:.1f} %" if 0.0 < share < 0.1 else f"{100 * share:.0f} %"
