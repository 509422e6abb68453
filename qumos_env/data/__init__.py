"""Data: where rows come from, how they are split and redrawn, and how features become angles."""

from .encoder import AngleEncoder
from .preprocessing import Preprocessor
from .protocol import DataProtocol, Draw, make_protocol
from .sources import Dataset, list_datasets, load_dataset

__all__ = ["AngleEncoder", "DataProtocol", "Dataset", "Draw", "Preprocessor", "list_datasets", "load_dataset", "make_protocol"]
