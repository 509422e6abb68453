"""What the gateway's API takes and gives, as pydantic models: the source of its OpenAPI page and of every check of a request."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, create_model

from .gateway import MOST_ROWS

FEATURE_LIMIT = 1e12
"""Of a feature, so that no sum of them leaves the numbers."""
Feature = Annotated[float, Field(ge=-FEATURE_LIMIT, le=FEATURE_LIMIT, allow_inf_nan=False)]


class _Message(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class Problem(_Message):
    """Why a request is refused."""

    error: str


class Fallback(_Message):
    """Said where an answer was made without some parts."""

    missing: list[str]


class Prediction(_Message):
    """The answer to one row."""

    model: str
    version: int
    request_id: str
    label: str
    probabilities: dict[str, float]
    fallback: Fallback | None = None


class Predictions(_Message):
    """The answers to many rows, in their order."""

    model: str
    version: int
    request_id: str
    classes: list[str]
    labels: list[str]
    probabilities: list[list[float]]
    fallback: Fallback | None = None


class _Lenient(BaseModel):
    # The protocol lets clients send parameters that a server does not know.
    model_config = ConfigDict(extra="ignore", strict=True)


class RequestedOutput(_Lenient):
    """An output that is wanted."""

    name: Literal["probabilities", "label"]
    parameters: dict[str, Any] | None = None


class OutputTensor(_Message):
    """A tensor of an answer."""

    name: str
    shape: list[int]
    datatype: Literal["FP64", "BYTES"]
    data: list[float] | list[str]


class InferResponse(_Message):
    """The answer of the Open Inference Protocol."""

    model_name: str
    model_version: str
    id: str
    parameters: dict[str, Any] = {}
    outputs: list[OutputTensor]


class TensorMetadata(_Message):
    """What a tensor is like; -1 is any number of rows."""

    name: str
    datatype: str
    shape: list[int]


class ModelMetadata(_Message):
    """What a model takes and gives."""

    name: str
    versions: list[str]
    platform: str
    inputs: list[TensorMetadata]
    outputs: list[TensorMetadata]


class DeployRequest(_Message):
    """The files of a bundle by name."""

    files: Annotated[dict[str, str], Field(max_length=10_000)]


class RollBackRequest(_Message):
    """A version that is kept."""

    version: Annotated[int, Field(ge=1, le=10**9)]


class TrustRequest(_Message):
    """A provider that was caught."""

    provider: Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,99}$")]


class RequestModels:
    """The requests that take rows of ``n_features`` features.

    Attributes:
        one, many: of /v1/predict.
        infer: of the Open Inference Protocol.
    """

    def __init__(self, n_features: int) -> None:
        # Types that depend on a number, which a checker cannot follow.
        row: Any = Annotated[list[Feature], Field(min_length=n_features, max_length=n_features)]
        rows: Any = Annotated[list[row], Field(min_length=1, max_length=MOST_ROWS)]
        flat: Any = Annotated[list[Feature], Field(min_length=n_features, max_length=n_features * MOST_ROWS)]
        count: Any = Annotated[int, Field(ge=1, le=MOST_ROWS)]
        width: Any = Annotated[int, Field(ge=n_features, le=n_features)]
        shape: Any = Annotated[tuple[count, width], Field(description=f"[rows, {n_features}]")]
        self.one = self._made("PredictOne", _Message, "One row.", row=(row, ...))
        self.many = self._made("PredictMany", _Message, "Rows.", rows=(rows, ...))
        tensor: Any = self._made(
            "InputTensor",
            _Lenient,
            f"Rows of {n_features} features, flat in row-major order or nested.",
            name=(Literal["features"], ...),
            shape=(shape, ...),
            datatype=(Literal["FP32", "FP64"], ...),
            parameters=(dict[str, Any] | None, None),
            data=(rows | flat, ...),
        )
        self.infer = self._made(
            "InferRequest",
            _Lenient,
            "A request of the Open Inference Protocol.",
            id=(Annotated[str | None, Field(max_length=200)], None),
            parameters=(dict[str, Any] | None, None),
            inputs=(Annotated[list[tensor], Field(min_length=1, max_length=1)], ...),
            outputs=(Annotated[list[RequestedOutput] | None, Field(max_length=2)], None),
        )

    @staticmethod
    def _made(title: str, base: type[BaseModel], doc: str, /, **fields: Any) -> type[BaseModel]:
        return create_model(title, __base__=base, __doc__=doc, **fields)
