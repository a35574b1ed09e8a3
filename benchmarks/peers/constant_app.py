"""A FastAPI application that answers `/ai/predict` with a constant: what the framework alone costs."""

from fastapi import FastAPI

app = FastAPI()


@app.get("/ai/predict")
async def get_prediction(symbol: str) -> dict[str, float | str]:
    """No model, no features, no token."""
    return {"symbol": symbol, "prob_up": 0.5}
