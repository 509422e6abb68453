"""Unlearning: trained models forget withdrawn rows, and a report says how near they came to never having seen them."""

from .bundle import unlearn_bundle
from .mechanisms import MECHANISMS, Unlearned, mechanism, unlearn
from .report import UnlearningReport, compare_mechanisms
from .withdrawal import Withdrawal, parse_forget, withdraw_class, withdraw_random, withdraw_rows

__all__ = [
    "MECHANISMS",
    "Unlearned",
    "UnlearningReport",
    "Withdrawal",
    "compare_mechanisms",
    "mechanism",
    "parse_forget",
    "unlearn",
    "unlearn_bundle",
    "withdraw_class",
    "withdraw_random",
    "withdraw_rows",
]
