"""Lets pages of other origins call the API, where they are configured; nobody's otherwise."""

from collections.abc import Sequence

from fastapi import FastAPI
from fastapi.middleware.cors import CORSMiddleware


def add_cross_origin(app: FastAPI, origins: Sequence[str]) -> None:
    """Answer the preflight requests of these origins. They send tokens in a header, never the console's cookie."""
    if origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(origins),
            allow_methods=["GET", "POST"],
            allow_headers=["Authorization", "Content-Type", "X-Request-ID"],
            expose_headers=["X-Request-ID", "Retry-After", "X-RateLimit-Limit", "X-RateLimit-Remaining"],
            allow_credentials=False,
        )
