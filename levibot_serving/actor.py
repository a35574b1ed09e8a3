"""Who asks, in the name that the audit log keeps."""

from typing import Annotated

from fastapi import Depends, Request

ANONYMOUS = "api"


async def _actor(request: Request) -> str:
    principal = getattr(request.state, "principal", None)
    return str(getattr(principal, "name", ANONYMOUS))


ActorDep = Annotated[str, Depends(_actor)]
