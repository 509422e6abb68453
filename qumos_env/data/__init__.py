"""Data: where rows come from, how they are split and redrawn, and how features become angles."""

from .preprocessing import Preprocessor
from .protocol import DataProtocol, Draw, make_protocol
from .sources import Dataset, dataset_names, load_dataset
from .stratified import allot

__all__ = ["DataProtocol", "Dataset", "Draw", "Preprocessor", "dataset_names", "load_dataset", "make_protocol"]
