"""How much work a training of the Temporal Fusion Transformer does, and how large its network is."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator


class TFTProfile(BaseModel):
    """Size and training of one network. An unknown field is refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    hidden_size: int = Field(ge=1, description="Width of the network, its main parameter")
    lstm_layers: int = Field(ge=1)
    attention_heads: int = Field(ge=1, description="Divides the hidden size")
    dropout: float = Field(ge=0, lt=1)
    window: int = Field(60, ge=2, description="Bars that a forecast looks at, the newest included")
    epochs: int = Field(ge=1, description="Upper limit; early stopping may end before")
    patience: int = Field(10, ge=1, description="Epochs without a lower validation loss before training ends")
    batch_size: int = Field(ge=1, description="Windows of one step")
    limit_train_batches: int = Field(ge=1, description="Steps of one epoch")
    stride: int = Field(1, ge=1, description="An epoch sees at most one of so many train windows")
    validation_windows: int = Field(ge=1, description="Windows that the validation loss is measured on, at most")
    learning_rate: float = Field(gt=0)

    @model_validator(mode="after")
    def _heads_divide_the_width(self) -> Self:
        if self.hidden_size % self.attention_heads:
            raise ValueError(
                f"expected attention heads that divide the hidden size {self.hidden_size}, was {self.attention_heads}"
            )
        return self


# Consecutive windows share all but one bar, so an epoch sees a small part of them, spread over all the time there is.
# Of 87,000 windows (the train part of 168 days of three symbols) `fast` sees 20,000 in all, and each is of two hours
# instead of five: forecasting the other parts takes as long as the training. `full` sees 49,000, with a network three
# times as slow: eight minutes on two cores, so that a training of all families stays under half an hour there. Raise
# its epochs where there is a GPU or a night; the weights kept are the best epoch's all the same.
TFT_PROFILES: Final[Mapping[str, TFTProfile]] = MappingProxyType(
    {
        "fast": TFTProfile(
            hidden_size=16,
            lstm_layers=1,
            attention_heads=2,
            dropout=0.1,
            window=24,
            epochs=5,
            batch_size=512,
            limit_train_batches=8,
            stride=10,
            validation_windows=1024,
            learning_rate=3e-3,
        ),
        "full": TFTProfile(
            hidden_size=64,
            lstm_layers=2,
            attention_heads=4,
            dropout=0.1,
            epochs=8,
            batch_size=512,
            limit_train_batches=12,
            validation_windows=2048,
            learning_rate=1e-3,
        ),
    }
)


def tft_profile(name: str) -> TFTProfile:
    """The transformer's part of a training profile; that of `fast` for a profile that has none of its own."""
    return TFT_PROFILES.get(name, TFT_PROFILES["fast"])
