"""Data sets, the redraws and preprocessing: hand counts and scikit-learn's own scalers as oracles."""

import io
import json
import re
import sys
import urllib.error
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import datasets
from sklearn.decomposition import PCA
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import MaxAbsScaler, MinMaxScaler

from qumos_env.data import Dataset, Draw, Preprocessor, list_datasets, load_dataset, make_protocol
from qumos_env.data.sources import SAMPLED_ROWS
from qumos_env.data.stratified import allot, deal
from qumos_env.errors import QumosError
from qumos_env.scenario import list_scenarios, load_scenario
from qumos_env.scenario.sections import DataSection, DrawSection

GENERATED = ("two-curves", "hidden-manifold", "hyperplanes", "waves", "parity", "parity-cut")


def counts(dataset: Dataset, rows: np.ndarray) -> list[int]:
    return np.bincount(dataset.labels[rows], minlength=len(dataset.class_names)).tolist()


def one_line_error(call, *arguments, **keywords) -> str:
    with pytest.raises(QumosError) as caught:
        call(*arguments, **keywords)
    message = str(caught.value)
    assert "\n" not in message
    return message


def save_csv(path: Path, **columns: list) -> str:
    pd.DataFrame(columns).to_csv(path, index=False)
    return str(path)


# --- sources ---


@pytest.mark.parametrize(
    ("source", "shape", "names"),
    [
        ("digits", (1797, 64), tuple("0123456789")),
        ("iris", (150, 4), ("setosa", "versicolor", "virginica")),
        ("wine", (178, 13), ("class_0", "class_1", "class_2")),
        ("breast-cancer", (569, 30), ("malignant", "benign")),
    ],
)
def test_shipped_sets_arrive_whole(source, shape, names):
    dataset = load_dataset(DataSection(source=source))
    original = {"digits": datasets.load_digits, "iris": datasets.load_iris, "wine": datasets.load_wine}.get(
        source, datasets.load_breast_cancer
    )()
    assert dataset.features.shape == shape and dataset.features.dtype == np.float64
    assert dataset.labels.dtype == np.int64 and dataset.class_names == names
    np.testing.assert_array_equal(dataset.features, original.data)
    np.testing.assert_array_equal(dataset.labels, original.target)


def test_classes_select_and_order():
    whole = load_dataset(DataSection(source="digits"))
    chosen = load_dataset(DataSection(source="digits", classes=(8, "3", 5)))
    assert chosen.class_names == ("8", "3", "5")
    for number, digit in enumerate((8, 3, 5)):
        np.testing.assert_array_equal(chosen.features[chosen.labels == number], whole.features[whole.labels == digit])
    assert len(chosen.labels) == np.isin(whole.labels, (3, 5, 8)).sum()


@pytest.mark.parametrize(
    ("section", "message"),
    [
        (DataSection(source="digts"), "unknown data set 'digts'; did you mean digits"),
        (
            DataSection(source="iris", classes=("setosa", "versicolour")),
            "unknown class of data set 'iris' 'versicolour'; did you mean versicolor",
        ),
        (DataSection(source="iris", classes=("setosa",)), "data set 'iris': needs at least two classes, found only 'setosa'"),
        (DataSection(source="digits", classes=(3, "3")), "data set 'digits': classes lists one twice: 3, 3"),
        (DataSection(source="iris", parameters={"row": 50}), "unknown parameter of data set 'iris' 'row'; did you mean rows"),
        (
            DataSection(source="two-curves", parameters={"degre": 3}),
            "unknown parameter of data set 'two-curves' 'degre'; did you mean degree",
        ),
        (DataSection(source="parity", parameters={"rows": 10.5}), "data set 'parity': rows must be a whole number, got 10.5"),
        (DataSection(source="parity", parameters={"features": 0}), "data set 'parity': features must be at least 2, got 0"),
        (DataSection(source="parity", parameters={"relevant": 5}), "parity: relevant is 5, half of the features is 4"),
        (DataSection(source="rows.xlsx"), "rows.xlsx: unknown kind of file; use .csv, .parquet, .npz"),
    ],
)
def test_bad_sections_are_told_apart(section, message):
    assert one_line_error(load_dataset, section).startswith(message)


def test_sample_of_a_real_set_keeps_the_class_shares():
    section = DataSection(source="breast-cancer", parameters={"rows": 100, "seed": 4})
    sample, again = load_dataset(section), load_dataset(section)
    other = load_dataset(section.model_copy(update={"parameters": {"rows": 100, "seed": 5}}))
    assert np.bincount(sample.labels).tolist() == [37, 63]  # 212 and 357 of 569
    np.testing.assert_array_equal(sample.features, again.features)
    assert not np.array_equal(sample.features, other.features)


# --- OpenML and the local copy ---


class Bunch:
    data = np.arange(40 * 784, dtype=np.uint8).reshape(40, 784)
    target = np.array([str(row % 10) for row in range(40)], dtype=object)


@pytest.mark.parametrize(("source", "name"), [("mnist", "mnist_784"), ("fashion-mnist", "Fashion-MNIST")])
def test_image_sets_come_from_openml(monkeypatch, source, name):
    asked = []
    monkeypatch.delenv("QUMOS_DATA", raising=False)
    monkeypatch.setattr(datasets, "fetch_openml", lambda *given, **options: asked.append((given, options)) or Bunch)
    dataset = load_dataset(DataSection(source=source, classes=(7, 1)))
    assert asked[0][0] == (name,) and asked[0][1]["as_frame"] is False
    assert dataset.features.shape == (8, 784) and dataset.class_names == ("7", "1")
    np.testing.assert_array_equal(dataset.features[0], Bunch.data[1])


def test_image_sets_are_sampled_unless_asked_for(monkeypatch):
    class Large:
        data = np.zeros((2 * SAMPLED_ROWS, 4), dtype=np.uint8)
        target = np.array(["0", "1"] * SAMPLED_ROWS, dtype=object)

    monkeypatch.delenv("QUMOS_DATA", raising=False)
    monkeypatch.setattr(datasets, "fetch_openml", lambda *given, **options: Large)
    assert np.bincount(load_dataset(DataSection(source="mnist")).labels).tolist() == [SAMPLED_ROWS // 2] * 2
    assert len(load_dataset(DataSection(source="mnist", parameters={"rows": 70000})).labels) == 2 * SAMPLED_ROWS


@pytest.mark.parametrize(
    "error",
    [urllib.error.URLError("no route\nto host"), ConnectionResetError("reset"), ImportError("needs pandas"), ValueError("bad checksum")],
)
def test_a_failed_download_says_what_to_do(monkeypatch, error):
    def fail(*_, **__):
        raise error

    monkeypatch.delenv("QUMOS_DATA", raising=False)
    monkeypatch.setattr(datasets, "fetch_openml", fail)
    message = one_line_error(load_dataset, DataSection(source="mnist"))
    assert "data set 'mnist' could not be downloaded" in message and "go online" in message
    assert "set QUMOS_DATA to a folder that holds mnist.npz" in message


def test_local_copy_replaces_the_download(monkeypatch, tmp_path):
    images = np.arange(12 * 4, dtype=np.uint8).reshape(12, 2, 2)
    labels = np.arange(12, dtype=np.uint8) % 2
    np.savez(tmp_path / "mnist.npz", x_train=images[:8], y_train=labels[:8], x_test=images[8:], y_test=labels[8:])
    np.savez(tmp_path / "fashion-mnist.npz", features=images.reshape(12, 4), labels=labels)
    monkeypatch.setenv("QUMOS_DATA", str(tmp_path))
    monkeypatch.setattr(datasets, "fetch_openml", lambda *_, **__: pytest.fail("went to the network"))
    for source in ("mnist", "fashion-mnist"):
        dataset = load_dataset(DataSection(source=source))
        np.testing.assert_array_equal(dataset.features, images.reshape(12, 4))
        np.testing.assert_array_equal(dataset.labels, labels)
        assert dataset.class_names == ("0", "1")


# --- generated tasks ---


def generated(source: str, **parameters: float) -> Dataset:
    return load_dataset(DataSection(source=source, parameters=parameters))


@pytest.mark.parametrize("source", GENERATED)
@pytest.mark.parametrize("rows", [401, 800])
def test_generated_tasks_are_repeatable_and_no_class_is_rare(source, rows):
    dataset, again, other = (generated(source, rows=rows, features=6, seed=seed) for seed in (3, 3, 4))
    assert dataset.features.shape == (rows, 6) and np.isfinite(dataset.features).all() and dataset.labels.dtype == np.int64
    sizes = np.bincount(dataset.labels)
    assert len(sizes) == len(dataset.class_names) == (4 if source == "parity" else 2)
    assert sizes.min() > 0.5 * rows / len(sizes)
    np.testing.assert_array_equal(dataset.features, again.features)
    np.testing.assert_array_equal(dataset.labels, again.labels)
    assert not np.array_equal(dataset.features, other.features)


@pytest.mark.parametrize("source", ["two-curves", "hidden-manifold"])
@pytest.mark.parametrize("rows", [101, 200])
def test_curves_and_manifold_are_balanced(source, rows):
    assert np.ptp(np.bincount(generated(source, rows=rows).labels)) <= 1


@pytest.mark.parametrize(("features", "relevant"), [(5, 1), (8, 2), (8, 4)])
def test_parities_are_those_of_the_signs(features, relevant):
    half = features // 2

    def odd(dataset, start):
        return np.prod(np.sign(dataset.features[:, start : start + relevant]), axis=1) < 0

    inside = generated("parity", features=features, relevant=relevant)
    np.testing.assert_array_equal(inside.labels, 2 * odd(inside, 0) + odd(inside, half))
    across = generated("parity-cut", features=features, relevant=relevant)
    np.testing.assert_array_equal(across.labels, odd(across, 0) ^ odd(across, half))
    # The class says nothing about either half alone, so that no sum over the halves can learn it.
    assert abs(np.mean(odd(across, 0)[across.labels == 1]) - 0.5) < 0.08


def test_parity_features_keep_their_margin():
    sizes = np.abs(generated("parity", margin=0.3).features)
    assert 0.3 <= sizes.min() < 0.31 and 0.99 < sizes.max() <= 1


def test_two_curves_have_the_given_degree_offset_and_noise():
    degree = 2
    curves = generated("two-curves", rows=4000, features=7, degree=degree, offset=0.5, noise=0)
    points = [curves.features[curves.labels == label] for label in range(2)]
    # A curve of degree D spans 2D directions around its mean, whatever the number of features.
    for one in points:
        assert np.linalg.matrix_rank(one - one.mean(axis=0), tol=1e-8) == 2 * degree
    # Standardising scales every column, and the shift with it: the same sign everywhere, larger for a larger offset.
    shift = points[1].mean(axis=0) - points[0].mean(axis=0)
    assert (shift > 0.2).all()
    noisy = generated("two-curves", rows=4000, features=7, degree=degree, offset=0.5, noise=0.1)
    assert np.linalg.matrix_rank(noisy.features[noisy.labels == 0], tol=1e-8) == 7


def test_waves_add_up_and_features_alone_say_nothing():
    """A linear model on every feature's cosine and sine learns what has no pairs, and hardly what has nothing else of weight."""
    scores = {}
    for pairs in (0, 4):
        dataset = generated("waves", rows=4000, pairs=pairs, unequal=0)
        angles = np.pi * dataset.features
        waves = np.hstack([np.cos(angles), np.sin(angles)])
        fitted = LogisticRegression(C=1e4, max_iter=2000).fit(waves[:2000], dataset.labels[:2000])
        scores[pairs] = fitted.score(waves[2000:], dataset.labels[2000:])
        assert dataset.features.min() >= 0 and dataset.features.max() <= 1
        assert np.abs(np.corrcoef(dataset.features.T) - np.eye(8)).max() < 0.08
        assert np.abs(dataset.features.mean(axis=0) - 0.5).max() < 0.03
    assert scores[0] > 0.97 and scores[4] < scores[0] - 0.1
    noisy = generated("waves", rows=4000, unequal=0, noise=1.0)
    plain = generated("waves", rows=4000, unequal=0)
    assert 0.15 < np.mean(noisy.labels != plain.labels) < 0.35
    message = one_line_error(load_dataset, DataSection(source="waves", parameters={"pairs": 5}))
    assert message == "data set 'waves': pairs is 5, at most 4 fit into 8 features"


def test_hidden_manifold_and_hyperplanes_have_the_hidden_dimension():
    assert np.linalg.matrix_rank(generated("hyperplanes", features=7, dimensions=3).features, tol=1e-8) == 3
    hidden = generated("hidden-manifold", features=7, manifold=2)
    assert np.abs(hidden.features).max() < 1
    # Undoing tanh leaves an affine image of the latent dimensions.
    straight = np.arctanh(hidden.features)
    assert np.linalg.matrix_rank(straight - straight.mean(axis=0), tol=1e-6) == 2


def test_one_hyperplane_is_linear_and_two_are_not():
    def linear_accuracy(planes):
        dataset = generated("hyperplanes", planes=planes)
        return LogisticRegression(C=100.0).fit(dataset.features, dataset.labels).score(dataset.features, dataset.labels)

    assert linear_accuracy(1) > 0.97
    assert linear_accuracy(2) < 0.85


# --- users' files ---


@pytest.mark.parametrize("kind", ["csv", "parquet"])
@pytest.mark.parametrize("columns", [("a", "label", "b"), ("a", "target", "b"), ("a", "b", "kind")])
def test_tables_find_their_label_column(tmp_path, kind, columns):
    label = next(name for name in columns if name not in "ab")
    values = {"a": [1.5, 2.5, 3.5], "b": [4, 5, 6], label: ["yes", "no", "yes"]}
    table = pd.DataFrame(values)[list(columns)]
    path = tmp_path / f"rows.{kind}"
    if kind == "csv":
        table.to_csv(path, index=False)
    else:
        table.to_parquet(path)
    dataset = load_dataset(DataSection(source=str(path)))
    np.testing.assert_array_equal(dataset.features, [[1.5, 4], [2.5, 5], [3.5, 6]])
    assert dataset.class_names == ("no", "yes") and dataset.labels.tolist() == [1, 0, 1]


def test_label_wins_over_target(tmp_path):
    source = save_csv(tmp_path / "rows.csv", target=[1, 2], label=["x", "y"])
    dataset = load_dataset(DataSection(source=source))
    assert dataset.class_names == ("x", "y") and dataset.features.tolist() == [[1.0], [2.0]]


def test_number_labels_are_ordered_by_value_and_written_whole(tmp_path):
    source = save_csv(tmp_path / "rows.csv", a=[1, 2, 3], label=[10.0, 9.0, 10.0])
    assert load_dataset(DataSection(source=source)).class_names == ("9", "10")
    assert load_dataset(DataSection(source=source, classes=(10, 9))).labels.tolist() == [0, 1, 0]


def test_npz_features_and_labels(tmp_path):
    np.savez(tmp_path / "rows.npz", features=np.arange(12).reshape(3, 2, 2), labels=["b", "a", "b"])
    dataset = load_dataset(DataSection(source=str(tmp_path / "rows.npz")))
    assert dataset.features.shape == (3, 4) and dataset.labels.tolist() == [1, 0, 1]


FAULTY_TABLES = {
    "nan": ("a,b,label\n1,2,x\n3,,y\n", "row 2, column 'b': nan is not a finite number"),
    "infinity": ("a,b,label\n-inf,2,x\n3,4,y\n", "row 1, column 'a': -inf is not a finite number"),
    "text": ("a,b,label\n1,2,x\n3,big,y\n", "column 'b' is not numeric: 'big' in row 2"),
    "missing label": ("a,b,label\n1,2,x\n3,4,\n", "row 2: no label in column 'label'"),
    "one class": ("a,b,label\n1,2,x\n3,4,x\n", "needs at least two classes, found only 'x'"),
    "one column": ("label\nx\ny\n", "needs at least one feature column and a label column, found 1 column(s)"),
    "header only": ("a,label\n", "holds no rows"),
    "empty": ("", "cannot be read"),
    "ragged": ("a,label\n1,x\n1,2,3,y\n", "cannot be read"),
}


@pytest.mark.parametrize("fault", FAULTY_TABLES)
def test_faulty_tables_say_where(tmp_path, fault):
    text, message = FAULTY_TABLES[fault]
    path = tmp_path / "rows.csv"
    path.write_text(text)
    told = one_line_error(load_dataset, DataSection(source=str(path)))
    assert str(path) in told and message in told


def test_a_column_of_dates_is_not_numeric(tmp_path):
    path = tmp_path / "rows.parquet"
    pd.DataFrame({"when": pd.to_datetime(["2024-01-01", "2024-01-02"]), "label": ["x", "y"]}).to_parquet(path)
    assert "column 'when' is not numeric" in one_line_error(load_dataset, DataSection(source=str(path)))


FAULTY_ARRAYS = {
    "length": ({"features": np.ones((3, 2)), "labels": np.arange(2)}, r"features has shape \(3, 2\) and labels has shape \(2,\)"),
    "one-hot": ({"features": np.ones((3, 2)), "labels": np.eye(3)}, "one label a row is needed"),
    "keys": ({"x": np.ones((3, 2)), "y": np.arange(3)}, "needs the arrays features and labels .* found 'x', 'y'"),
    "text": ({"features": np.array([["a"], ["b"]]), "labels": np.arange(2)}, "features are not numeric"),
    "flat": ({"features": np.ones(3), "labels": np.arange(3)}, "features must be"),
    "nan": ({"features": np.array([[1, 2], [3, np.nan]]), "labels": np.arange(2)}, r"row 2, column features\[:, 1\]: nan"),
    "nan label": ({"features": np.ones((2, 2)), "labels": np.array([0, np.nan])}, "row 2: label is nan"),
    "pickle": ({"features": np.array([[object()]]), "labels": np.arange(1)}, "cannot be read .*allow_pickle"),
    "split length": (
        {"x_train": np.ones((3, 2)), "y_train": np.arange(2), "x_test": np.ones((1, 2)), "y_test": np.arange(1)},
        "x_train has shape",
    ),
    "split width": (
        {"x_train": np.ones((2, 2)), "y_train": np.arange(2), "x_test": np.ones((1, 3)), "y_test": np.arange(1)},
        "x_train and x_test differ in shape",
    ),
}


@pytest.mark.parametrize("fault", FAULTY_ARRAYS)
def test_faulty_arrays_say_what(tmp_path, fault):
    arrays, message = FAULTY_ARRAYS[fault]
    path = tmp_path / "rows.npz"
    np.savez(path, **arrays)
    told = one_line_error(load_dataset, DataSection(source=str(path)))
    assert told.startswith(str(path)) and re.search(message, told)


@pytest.mark.parametrize("ending", ["csv", "parquet", "npz"])
def test_missing_unreadable_and_foreign_files(tmp_path, ending):
    path = tmp_path / f"rows.{ending}"
    assert one_line_error(load_dataset, DataSection(source=str(path))) == f"{path}: cannot be read (No such file or directory)"
    path.write_bytes(b"\xff\xfe\x00 not a table \x80")
    assert one_line_error(load_dataset, DataSection(source=str(path))).startswith(f"{path}: ")
    path.unlink()
    path.mkdir()
    assert one_line_error(load_dataset, DataSection(source=str(path))) == f"{path}: cannot be read (not a regular file)"


def test_a_truncated_npz_and_a_bare_array(tmp_path):
    path = tmp_path / "rows.npz"
    np.savez_compressed(path, features=np.random.default_rng(0).normal(size=(50, 4)), labels=np.arange(50) % 2)
    path.write_bytes(path.read_bytes()[:-200])
    assert "cannot be read" in one_line_error(load_dataset, DataSection(source=str(path)))
    with path.open("wb") as handle:
        np.save(handle, np.ones((2, 2)))
    assert "holds a single array" in one_line_error(load_dataset, DataSection(source=str(path)))


def test_tables_without_pandas_say_what_to_install(tmp_path, monkeypatch):
    source = save_csv(tmp_path / "rows.csv", a=[1, 2], label=["x", "y"])
    monkeypatch.setitem(sys.modules, "pandas", None)
    assert "pip install 'qumos-env[data]'" in one_line_error(load_dataset, DataSection(source=source))


# --- headers, labels and indices of tables ---


@pytest.mark.parametrize(
    "text",
    [
        "5.1,3.5,0\n4.9,3.0,1\n6.2,3.4,0\n",  # numbers only
        "5.1,3.5,setosa\n4.9,3.0,virginica\n6.2,3.4,setosa\n",  # the class of the first row is one of the others'
        "\n\n5.1,3.5,0\n4.9,3.0,1\n",
        "\ufeff5.1,3.5,0\n4.9,3.0,1\n",
    ],
)
def test_a_table_without_a_header_loses_no_row_silently(tmp_path, text):
    path = tmp_path / "rows.csv"
    path.write_text(text, encoding="utf-8")
    told = one_line_error(load_dataset, DataSection(source=str(path)))
    assert "the first line must name the columns, it holds the values of a row: ['5.1', '3.5'" in told


def test_names_that_are_numbers_are_a_header(tmp_path):
    """Wavelengths, pixels: the name of the label tells them from a row."""
    path = tmp_path / "rows.csv"
    path.write_text("1100,1102.5,protein\n1,2,x\n3,4,y\n", encoding="utf-8")
    assert load_dataset(DataSection(source=str(path))).features.tolist() == [[1, 2], [3, 4]]


@pytest.mark.parametrize("label", ["label", "kind"])
@pytest.mark.parametrize("kind", ["csv", "csv twice", "parquet", "parquet named", "parquet without metadata"])
def test_the_index_of_pandas_is_no_feature(tmp_path, kind, label):
    """However it was written, and if it is the last column too."""
    table = pd.DataFrame({"a": [1.0, 2.0, 3.0], label: ["x", "y", "x"]}, index=[17, 4, 9])
    path = tmp_path / f"rows.{kind.split()[0]}"
    if kind == "csv":
        table.to_csv(path)
    elif kind == "csv twice":
        table.to_csv(path)
        pd.read_csv(path).to_csv(path)
    elif kind == "parquet without metadata":
        pq.write_table(pa.Table.from_pandas(table).replace_schema_metadata(None), path)
    else:
        table.rename_axis("patient" if kind == "parquet named" else None).to_parquet(path)
    dataset = load_dataset(DataSection(source=str(path)))
    assert dataset.features.tolist() == [[1], [2], [3]] and dataset.labels.tolist() == [0, 1, 0]


def test_a_label_that_looks_like_a_feature_is_named(tmp_path):
    path = save_csv(tmp_path / "rows.csv", kind=["x", "y", "x"], length=[1.5, 2.5, 3.5])
    told = one_line_error(load_dataset, DataSection(source=path))
    assert "column 'length' is read as the label (label, else target, else the last column), but holds fractions such as 1.5" in told
    assert "call the column of the classes label" in told
    path = save_csv(tmp_path / "named.csv", a=[1, 2, 3], target=[0.5, 1.5, 0.5])
    assert load_dataset(DataSection(source=path)).class_names == ("0.5", "1.5")
    path = save_csv(tmp_path / "many.csv", a=list(range(1001)), number=list(range(1001)))
    told = one_line_error(load_dataset, DataSection(source=path))
    assert "column 'number' is read as the label" in told and "1,001 different values, at most 1,000 classes" in told


# --- bounds ---


@pytest.mark.parametrize("damage", [None, b"{", b"[]", b'{"index_columns": 3}', b'{"index_columns": [], "columns": [{"name": "a"}]}'])
def test_damaged_metadata_of_pandas_do_no_harm(tmp_path, damage):
    """Other writers leave them out, or know other versions of them."""
    table = pa.Table.from_pandas(pd.DataFrame({"a": [1.0, 2.0], "label": ["x", "y"]}))
    path = tmp_path / "rows.parquet"
    pq.write_table(table.replace_schema_metadata(None if damage is None else {b"pandas": damage}), path)
    dataset = load_dataset(DataSection(source=str(path)))
    assert dataset.features.tolist() == [[1], [2]] and dataset.class_names == ("x", "y")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (",".join(f"c{number}" for number in range(10_001)) + "\n1\n", "has 10,001 columns, at most 10,000"),
        (",".join(f"c{number}" for number in range(1_000_000)) + "\n1\n", "the first line has more than 4,194,304 bytes"),
        (",".join(f"c{number}" for number in range(9_000)) + "\n" + "1\n" * 12_000, "rows of 9,000 columns, at most 100,000,000 values"),
        ("a,label\n" + "1\n" * 2_000_001, "rows, at most 2,000,000"),
        ("a" * 200_000 + ",label\n1,x\n", "cannot be read (field larger than field limit"),
        ("a,label\n1e200,x\n1,y\n", "row 1, column 'a': 1e+200 is larger than 1e+30"),
        ("a,label\n1,x\n-2e30,y\n", "row 2, column 'a': -2e+30 is larger than 1e+30"),
        ("a,label\n1," + "x" * 101 + "\n2,y\n", "at most 100 characters"),
        ("a" * 100_000 + ",label\nbig,x\n1,y\n", "(100000 characters) is not numeric: 'big' in row 1"),
    ],
)
def test_tables_are_measured_before_they_are_read(tmp_path, text, message):
    """Short rows are filled up to the width of the header, so a small file can make a table that no memory holds."""
    path = tmp_path / "rows.csv"
    path.write_text(text)
    told = one_line_error(load_dataset, DataSection(source=str(path)))
    assert message in told and len(told) < 500


def test_a_wide_parquet_file_is_measured_by_its_metadata(tmp_path):
    path = tmp_path / "rows.parquet"
    pq.write_table(pa.table({f"c{number}": [1] for number in range(10_001)}), path)
    assert "has 10,001 columns" in one_line_error(load_dataset, DataSection(source=str(path)))


def save_header(path, shape, descr="<f8"):
    """An NPZ whose features promise ``shape`` and hold eight bytes."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, size in (("features", shape), ("labels", (2,))):
            member = io.BytesIO()
            np.lib.format.write_array_header_1_0(member, {"descr": descr, "fortran_order": False, "shape": size})
            archive.writestr(f"{name}.npy", member.getvalue() + bytes(16))


@pytest.mark.parametrize(
    ("shape", "descr", "message"),
    [
        ((10**12, 2), "<f8", r"'features.npy' has shape \[1000000000000, 2\], at most 100,000,000 values"),
        ((10**7, 2), "<f8", r"'features.npy' has shape \[10000000, 2\], but only 144 bytes"),
        ((2, 10**400), "<f8", "at most 100,000,000 values"),
        ((1, 1), "<U99999999", "but only 144 bytes"),
        ((-1, 2), "<f8", "cannot be read"),
        ((2, 1), "|O", "cannot be read"),
    ],
)
def test_an_array_holds_what_its_header_promises(tmp_path, shape, descr, message):
    path = tmp_path / "rows.npz"
    save_header(path, shape, descr)
    assert re.search(message, one_line_error(load_dataset, DataSection(source=str(path))))


def test_wide_arrays_are_refused(tmp_path):
    np.savez(tmp_path / "rows.npz", features=np.zeros((2, 10_001)), labels=[0, 1])
    assert "has 10,001 columns" in one_line_error(load_dataset, DataSection(source=str(tmp_path / "rows.npz")))


def test_other_arrays_of_an_npz_are_not_read(tmp_path):
    """Whatever they hold: pickled objects, or far too many values."""
    np.savez(tmp_path / "rows.npz", features=np.eye(2), labels=[0, 1], note=np.array([{"a": 1}], dtype=object))
    assert load_dataset(DataSection(source=str(tmp_path / "rows.npz"))).features.shape == (2, 2)


def test_the_name_of_a_link_says_what_kind_of_file_it_is(tmp_path):
    """Stores of data keep the content under other names."""
    save_csv(tmp_path / "blob.csv", a=[1, 2], label=["x", "y"])
    (tmp_path / "blob.csv").rename(tmp_path / "0a1b2c")
    (tmp_path / "rows.csv").symlink_to("0a1b2c")
    assert load_dataset(DataSection(source=str(tmp_path / "rows.csv"))).features.tolist() == [[1], [2]]


def test_all_draws_together_are_bounded():
    section = DataSection(source="two-curves", parameters={"rows": 1_000_000, "features": 8})
    told = one_line_error(make_protocol, section, DrawSection(count=1000), 8)
    assert told == "data set 'two-curves': 1,000 draws of 1,000,000 rows with 8 values take 60 GiB, at most 32 GiB are possible"


# --- the protocol ---


@given(st.integers(0, 5000), st.lists(st.integers(0, 700), min_size=1, max_size=12).filter(any))
def test_allotment_is_proportional(total, shares):
    places = allot(total, np.array(shares))
    exact = total * np.array(shares) / sum(shares)
    assert places.sum() == total and (np.abs(places - exact) < 1).all()


def test_allotment_by_hand():
    assert allot(10, np.array([212, 357])).tolist() == [4, 6]  # 3.73, 6.27
    assert allot(4, np.array([1, 1, 1])).tolist() == [2, 1, 1]  # ties go to the earlier class


def draw_parts(draw: Draw) -> dict[str, np.ndarray]:
    return {role: getattr(draw, role) for role in ("train", "thief", "tuning", "score", "test")}


@pytest.mark.parametrize("half_split", [False, True])
@settings(deadline=None, max_examples=25)
@given(
    seed=st.integers(0, 2**40), split_seed=st.integers(0, 99), train=st.integers(4, 45), thief=st.integers(1, 4), tuning=st.integers(1, 20)
)
def test_draws_are_disjoint_stratified_and_complete(half_split, seed, split_seed, train, thief, tuning):
    section = DataSection(source="wine", split_seed=split_seed)
    sizes = DrawSection(count=4, train_rows=train, thief_rows_per_class=thief, tuning_rows=tuning, half_split=half_split)
    protocol = make_protocol(section, sizes, 6)
    dataset = protocol.dataset
    assert counts(dataset, protocol.test) == [12, 14, 10]  # a fifth of 59, 71, 48
    for draw in protocol.draws(seed):
        parts = draw_parts(draw)
        together = np.concatenate(list(parts.values()))
        assert len(np.unique(together)) == len(together)
        others = np.setdiff1d(np.arange(178), together)
        assert np.array_equal(others, draw.nonmembers) if half_split else len(others) == 0
        assert len(draw.train) == train and len(draw.tuning) == tuning and counts(dataset, draw.thief) == [thief] * 3
        shares = np.array([47, 57, 38]) / 142
        for role, size in (("train", train), ("tuning", tuning)):
            assert (np.abs(counts(dataset, parts[role]) - size * shares) < 1).all()
        assert min(counts(dataset, draw.score)) >= 2
        np.testing.assert_array_equal(draw.test, protocol.test)


def test_draws_depend_on_the_seed_alone():
    section, sizes = DataSection(source="digits", classes=(3, 5, 8, 9)), DrawSection(count=3)
    first, other = make_protocol(section, sizes, 8), make_protocol(section, DrawSection(count=5), 8)
    for one, two in zip(first.draws(7), other.draws(7), strict=False):
        for role, rows in draw_parts(one).items():
            np.testing.assert_array_equal(rows, draw_parts(two)[role])
        np.testing.assert_array_equal(one.nonmembers, two.nonmembers)
    trains = {tuple(draw.train) for seed in (0, 1) for draw in first.draws(seed)}
    assert len(trains) == 6


def test_the_test_split_follows_its_own_seed():
    def split(**fields):
        return make_protocol(DataSection(source="iris", reducer="none", **fields), DrawSection(count=1, train_rows=30), 4).test.tolist()

    assert split() == split(split_seed=0) != split(split_seed=1)
    assert len(split(test_fraction=0.3)) == 45


def test_every_row_of_the_pool_is_a_member_in_exactly_half_of_the_draws():
    sizes = DrawSection(count=16, train_rows=61, thief_rows_per_class=3, tuning_rows=40, half_split=True)
    protocol = make_protocol(DataSection(source="breast-cancer"), sizes, 6)
    draws = protocol.draws(5)
    pool = np.union1d(draws[0].train, draws[0].nonmembers)
    membership = np.array([np.isin(pool, draw.train) for draw in draws])
    assert len(pool) == 122 and (membership.sum(axis=0) == 8).all()
    for draw in draws:
        np.testing.assert_array_equal(np.union1d(draw.train, draw.nonmembers), pool)
        assert counts(protocol.dataset, draw.train) == counts(protocol.dataset, draw.nonmembers) == [23, 38]  # 61 · 170 / 455 = 22.8
    for first, second in zip(draws[::2], draws[1::2], strict=True):
        np.testing.assert_array_equal(first.train, second.nonmembers)
    assert len({tuple(draw.train) for draw in draws}) == 16
    assert len({tuple(draw.thief) for draw in draws}) == 16, "rows outside the pool are redrawn for every draw"
    other = protocol.draws(6)[0]
    assert not np.array_equal(np.union1d(other.train, other.nonmembers), pool)


def test_nonmembers_match_the_train_rows_when_they_are_taken_from_the_scored_ones():
    few = make_protocol(DataSection(source="breast-cancer"), DrawSection(count=2, train_rows=60), 6)
    for draw in few.draws(0):
        assert counts(few.dataset, draw.nonmembers) == counts(few.dataset, draw.train)
        assert np.isin(draw.nonmembers, draw.score).all()
    many = make_protocol(DataSection(source="breast-cancer"), DrawSection(count=1, train_rows=300), 6)
    draw = many.draws(0)[0]
    left, train = np.array(counts(many.dataset, draw.score)), np.array(counts(many.dataset, draw.train))
    taken = np.array(counts(many.dataset, draw.nonmembers))
    assert (taken <= left).all() and (left - taken <= 2).any(), "as many as the scored rows allow"
    assert (np.abs(taken - taken.sum() * train / train.sum()) < 1).all()


@pytest.mark.parametrize("name", list_scenarios())
def test_every_scenario_of_the_library_has_enough_rows(name):
    scenario = load_scenario(name)
    protocol = make_protocol(scenario.data, scenario.draws, scenario.design.qubits)
    assert len(protocol.draws(0)) == scenario.draws.count


@pytest.mark.parametrize(
    ("section", "sizes", "qubits", "message"),
    [
        (
            DataSection(source="iris"),
            DrawSection(train_rows=100),
            4,
            r"data set 'iris': class 'setosa' has 50 row\(s\), the protocol needs 63 of it \(10 test, 34 train, .* 14 tuning, 2 score\)",
        ),
        (
            DataSection(source="iris"),
            DrawSection(train_rows=30, tuning_rows=15, half_split=True, thief_rows_per_class=20, count=2),
            4,
            r"needs 57 of it \(10 test, 20 train, 20 thief, 5 tuning, 2 score\)",
        ),
        (DataSection(source="iris"), DrawSection(train_rows=30, half_split=True, count=3), 4, "half_split needs an even count, got 3"),
        (
            DataSection(source="digits", reducer="none"),
            DrawSection(),
            8,
            "reducer 'none' needs as many features as qubits: 'digits' has 64, not 8",
        ),
    ],
)
def test_protocols_that_cannot_work(section, sizes, qubits, message):
    assert re.search(message, one_line_error(make_protocol, section, sizes, qubits))


@pytest.mark.parametrize(
    ("rare", "sizes", "message"),
    [
        (1, DrawSection(train_rows=20, tuning_rows=10), r"class 'rare' has 1 row\(s\), the protocol needs"),
        (60, DrawSection(train_rows=2, tuning_rows=10), "train_rows leaves class 'rare' .60 rows. without a row"),
        (6, DrawSection(train_rows=20, tuning_rows=10, thief_rows_per_class=1), "class 'rare' .6 rows. without a row"),
    ],
)
def test_a_rare_class_is_named(tmp_path, rare, sizes, message):
    rows = 2000
    labels = ["rare" if row < rare else "common" for row in range(rows)]
    source = save_csv(tmp_path / "rows.csv", a=list(range(rows)), b=[row % 7 for row in range(rows)], label=labels)
    assert re.search(message, one_line_error(make_protocol, DataSection(source=source), sizes, 2))


def test_negative_seeds_are_refused():
    protocol = make_protocol(DataSection(source="iris"), DrawSection(count=1, train_rows=30), 4)
    assert "must not be negative" in one_line_error(protocol.draws, -1)


def test_a_protocol_is_kept_until_its_file_changes(tmp_path):
    path = tmp_path / "rows.csv"
    columns = {"a": list(range(300)), "b": [row % 7 for row in range(300)], "label": [row % 2 for row in range(300)]}
    section, sizes = DataSection(source=save_csv(path, **columns)), DrawSection(count=1)
    first = make_protocol(section, sizes, 2)
    assert make_protocol(section, sizes, 2) is first
    save_csv(path, **(columns | {"a": list(range(1000, 1300))}))
    assert make_protocol(section, sizes, 2).dataset.features[0, 0] == 1000


def test_dealing_gives_the_rest_to_nobody():
    pools = [np.arange(5), np.arange(5, 9)]
    first, second, rest = deal(pools, [np.array([2, 1]), np.array([1, 2])], np.random.default_rng(0))
    assert (len(first), len(second), len(rest)) == (3, 3, 3)
    np.testing.assert_array_equal(np.sort(np.concatenate([first, second, rest])), np.arange(9))


# --- preprocessing ---


def digits(rows: slice = slice(None)) -> tuple[np.ndarray, np.ndarray]:
    features, labels = datasets.load_digits(return_X_y=True)
    return features[rows], labels[rows]


def assert_same_up_to_reflection(found: np.ndarray, expected: np.ndarray, low: float, high: float) -> None:
    """Every column agrees, or is mirrored in the range: an eigenvector has no sign."""
    for column in range(expected.shape[1]):
        mirrored = low + high - expected[:, column]
        assert np.allclose(found[:, column], expected[:, column], atol=1e-9) or np.allclose(found[:, column], mirrored, atol=1e-9)


@pytest.mark.parametrize(
    ("scaler", "low", "high"), [("min-max", 0.0, np.pi), ("min-max", -1.0, 2.0), ("max-abs", 0.0, np.pi), ("max-abs", -2.0, 1.0)]
)
def test_pca_agrees_with_a_scikit_learn_pipeline(scaler, low, high):
    features, _ = digits()
    train, other = features[:200], features[200:]
    section = DataSection(source="digits", scaler=scaler, angle_range=(low, high))
    found = Preprocessor.fit(train, section, 8)
    pca = PCA(8, svd_solver="full").fit(train)
    if scaler == "min-max":
        scaling = MinMaxScaler((low, high)).fit(pca.transform(train))
        expected = [scaling.transform(pca.transform(rows)) for rows in (train, other)]
    else:
        scaling = MaxAbsScaler().fit(pca.transform(train))
        expected = [(low + high) / 2 + scaling.transform(pca.transform(rows)) * (high - low) / 2 for rows in (train, other)]
    assert_same_up_to_reflection(found.transform(train), expected[0], low, high)
    assert_same_up_to_reflection(found.transform(other), np.clip(expected[1], low, high), low, high)
    assert (expected[1] > high).any() or (expected[1] < low).any(), "the clip is exercised"


@pytest.mark.parametrize("scaler", ["min-max", "max-abs"])
def test_lda_agrees_with_scikit_learn(scaler):
    features, labels = digits(slice(0, 400))
    section = DataSection(source="digits", reducer="lda", scaler=scaler, angle_range=(0.0, 3.0))
    found = Preprocessor.fit(features, section, 5, labels=labels).transform(features)
    projected = LinearDiscriminantAnalysis(solver="svd", n_components=5).fit(features, labels).transform(features)
    if scaler == "min-max":
        assert_same_up_to_reflection(found, MinMaxScaler((0.0, 3.0)).fit_transform(projected), 0.0, 3.0)
    else:
        assert_same_up_to_reflection(found, 1.5 + 1.5 * MaxAbsScaler().fit_transform(projected), 0.0, 3.0)


def test_none_scales_every_feature_by_itself():
    features, _ = datasets.load_iris(return_X_y=True)
    section = DataSection(source="iris", reducer="none", angle_range=(-1.0, 1.0))
    found = Preprocessor.fit(features, section, 4)
    np.testing.assert_allclose(found.transform(features), MinMaxScaler((-1, 1)).fit_transform(features), atol=1e-12)
    np.testing.assert_array_equal(found.matrix, np.diag(np.diag(found.matrix)))
    message = one_line_error(Preprocessor.fit, features, section, 3)
    assert message == "data.reducer 'none' needs as many features as qubits: 'iris' has 4, not 3"


def test_signs_are_fixed_and_refitting_is_exact():
    features, labels = digits(slice(0, 300))
    for reducer in ("pca", "lda"):
        section = DataSection(source="digits", reducer=reducer)
        first, second = (Preprocessor.fit(features, section, 6, labels=labels) for _ in range(2))
        np.testing.assert_array_equal(first.matrix, second.matrix)
        np.testing.assert_array_equal(first.offset, second.offset)
        largest = np.abs(first.matrix).argmax(axis=0)
        assert (first.matrix[largest, np.arange(6)] > 0).all()


@pytest.mark.parametrize("shift", [0.0, 1e6])
@pytest.mark.parametrize("scaler", ["min-max", "max-abs"])
def test_a_thief_with_six_rows_still_gets_eight_columns(scaler, shift):
    features, _ = digits(slice(0, 6))
    section = DataSection(source="digits", scaler=scaler, angle_range=(0.0, 2.0))
    found = Preprocessor.fit(features + shift, section, 8)
    angles = found.transform(features + shift)
    assert angles.shape == (6, 8)
    # Six rows span five directions around their mean; a sixth would be rounding errors blown up to the full range.
    assert (np.ptp(angles[:, :5], axis=0) > 0.5).all()
    np.testing.assert_array_equal(angles[:, 5:], 1.0)
    np.testing.assert_array_equal(found.transform(digits()[0][:50] + shift)[:, 5:], 1.0)


def test_collinear_features_and_equal_rows_fill_with_the_middle():
    line = np.outer(np.arange(20.0), [1.0, 2.0, 3.0])
    section = DataSection(source="x", angle_range=(0.0, 1.0))
    angles = Preprocessor.fit(line, section, 3).transform(line)
    np.testing.assert_allclose(angles[:, 0], np.linspace(0, 1, 20), atol=1e-12)
    np.testing.assert_array_equal(angles[:, 1:], 0.5)
    equal = np.full((4, 3), 0.1)
    np.testing.assert_array_equal(Preprocessor.fit(equal, section, 3).transform(equal), 0.5)


@pytest.mark.parametrize("scaler", ["min-max", "max-abs"])
def test_constant_features_become_the_middle_angle(scaler):
    features = np.array([[0.1, 7.0, 0.0], [0.2, 7.0, 0.0], [0.4, 7.0, 0.0]])
    section = DataSection(source="x", reducer="none", scaler=scaler, angle_range=(0.0, np.pi))
    found = Preprocessor.fit(features, section, 3)
    np.testing.assert_array_equal(found.transform(features)[:, 1:], np.pi / 2)
    np.testing.assert_array_equal(found.transform(features * 100)[:, 1:], np.pi / 2)


def test_lda_fills_what_the_classes_cannot_give():
    features, labels = datasets.load_wine(return_X_y=True)
    section = DataSection(source="wine", reducer="lda", angle_range=(0.0, 2.0))
    angles = Preprocessor.fit(features, section, 4, labels=labels).transform(features)
    assert (np.ptp(angles[:, :2], axis=0) > 1.9).all()
    np.testing.assert_array_equal(angles[:, 2:], 1.0)
    message = "data.reducer 'lda' gives at most 2 components here, 4 are needed"
    assert one_line_error(Preprocessor.fit, features, section, 4, labels=labels, strict=True) == message
    assert one_line_error(make_protocol, section, DrawSection(train_rows=40, tuning_rows=15), 4, strict=True) == message
    assert Preprocessor.fit(features, section, 2, labels=labels, strict=True).matrix.shape == (13, 2)


def test_lda_with_few_rows():
    features, labels = digits()
    section = DataSection(source="digits", reducer="lda")
    three = np.concatenate([np.flatnonzero(labels == digit)[:3] for digit in (3, 5, 8, 9)])
    angles = Preprocessor.fit(features[three], section, 3, labels=labels[three]).transform(features[three])
    assert (np.ptp(angles, axis=0) > 3).all()
    # One row a class: nothing varies within a class, and the limit of LDA is PCA.
    single = three[::3]
    by_lda = Preprocessor.fit(features[single], section, 3, labels=labels[single])
    by_pca = Preprocessor.fit(features[single], DataSection(source="digits"), 3)
    np.testing.assert_array_equal(by_lda.matrix, by_pca.matrix)
    for given_labels in (None, np.zeros(12, dtype=int)):
        told = one_line_error(Preprocessor.fit, features[three], section, 3, labels=given_labels)
        assert told == "data.reducer 'lda' needs the labels of at least two classes"


@settings(deadline=None, max_examples=60)
@given(
    rows=st.integers(2, 12),
    columns=st.integers(1, 6),
    width=st.integers(1, 8),
    reducer=st.sampled_from(["pca", "lda", "none"]),
    scaler=st.sampled_from(["min-max", "max-abs"]),
    scale=st.sampled_from([1e-9, 1.0, 1e9]),
    seed=st.integers(0, 999),
)
def test_angles_stay_in_range_and_survive_json_bit_for_bit(rows, columns, width, reducer, scaler, scale, seed):
    generator = np.random.default_rng(seed)
    # Rounded values give ties, constant columns and equal rows.
    features = generator.normal(size=(rows, columns)).round(generator.integers(0, 3)) * scale
    section = DataSection(source="x", reducer=reducer, scaler=scaler, angle_range=(-0.3, 2.9))
    found = Preprocessor.fit(features, section, columns if reducer == "none" else width, labels=np.arange(rows) % 2)
    unseen = 3 * generator.normal(size=(20, columns)) * scale
    angles = found.transform(unseen)
    assert angles.dtype == np.float64 and angles.shape == (20, columns if reducer == "none" else width)
    assert (angles >= -0.3).all() and (angles <= 2.9).all()
    np.testing.assert_array_equal(angles, np.clip(unseen @ found.matrix + found.offset, -0.3, 2.9))
    again = Preprocessor.from_dict(json.loads(json.dumps(found.to_dict(), allow_nan=False)))
    assert again.transform(unseen).tobytes() == angles.tobytes()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"matrix": "none"}, "must be numbers"),
        ({"matrix": [[1.0], [1.0, 2.0]]}, "must be numbers"),
        ({"offset": [0.0]}, "do not fit together"),
        ({"angle_range": [1.0, 0.0]}, "do not fit together"),
        ({"offset": [0.0, float("nan")]}, "must be finite"),
        ({"angle_range": [0.0, float("inf")]}, "must be finite"),
        ({"offset": [10**400, 0.0]}, "must be numbers"),
    ],
)
def test_damaged_descriptions_are_refused(change, message):
    good = Preprocessor(np.eye(2), np.zeros(2), (0.0, 1.0)).to_dict()
    assert message in one_line_error(Preprocessor.from_dict, good | change)
    assert "'offset'" in one_line_error(Preprocessor.from_dict, {"matrix": [[1.0]]})


def test_unusable_queries_are_refused():
    features, _ = digits(slice(0, 50))
    found = Preprocessor.fit(features, DataSection(source="digits"), 4)
    assert one_line_error(found.transform, features[:, :10]) == "features must be [rows, 64], got shape (50, 10)"
    assert "[rows, 64]" in one_line_error(found.transform, features[0])
    broken = features.copy()
    broken[3, 9] = np.inf
    assert one_line_error(found.transform, broken) == "features: row 4, column 10: inf is not a finite number"
    assert "at least 2 rows" in one_line_error(Preprocessor.fit, features[:1], DataSection(source="digits"), 4)
    with pytest.raises(ValueError, match="read-only"):
        found.matrix[0, 0] = 1.0


def test_the_list_of_data_sets_is_what_loads():
    assert set(GENERATED) < set(list_datasets())
    assert "mnist" in list_datasets() and "digits" in list_datasets()
