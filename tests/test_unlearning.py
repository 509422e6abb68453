"""Unlearning: what each mechanism does to the parameters, what the report measures, and bundles that forget."""

import json
import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from qumos_env.deployment.bundle import read_bundle
from qumos_env.deployment.export import export_bundle
from qumos_env.design import Design, Gate
from qumos_env.design.ansatz import contiguous, interleaved, ry_cz_ry
from qumos_env.errors import QumosError
from qumos_env.evaluation.service import Service
from qumos_env.evaluation.workload import Workload
from qumos_env.model.qnn import QNN
from qumos_env.model.training import Parameters
from qumos_env.scenario import Scenario, load_scenario, parse_scenario
from qumos_env.unlearning import (
    MECHANISMS,
    UnlearningReport,
    Withdrawal,
    compare_mechanisms,
    parse_forget,
    unlearn,
    unlearn_bundle,
    withdraw_class,
    withdraw_random,
    withdraw_rows,
)
from qumos_env.unlearning import bundle as bundle_module
from qumos_env.unlearning.bundle import rows_digest
from qumos_env.unlearning.measurement import LEAST_MEMBERS, measure
from qumos_env.unlearning.mechanisms import (
    gradient_ascent,
    relative_gradient_ascent,
    retrain,
    selective_synaptic_dampening,
    unseen_loss,
)
from qumos_env.unlearning.mechanisms.rows import squared_gradients
from qumos_env.unlearning.report import summarise

TINY = {
    "name": "tiny",
    "title": "tiny",
    "data": {"source": "wine", "reducer": "pca"},
    "draws": {"count": 4, "train_rows": 36, "tuning_rows": 15},
    "design": {"qubits": 4, "max_parts": 2, "max_part_qubits": 2, "max_gates": 40},
    "model": {"steps": 30},
    "threat": {"steps": 5},
    "providers": [{"name": "aurora"}, {"name": "borealis"}],
}
PARTITION = interleaved(4, 2)
DESIGN = Design(
    PARTITION,
    ("aurora", "borealis"),
    (
        *ry_cz_ry(PARTITION, ("aurora", "borealis"), 1).gates,
        Gate("rzz", (0, 2)),
        Gate("reupload", (1,)),
        Gate("rx", (1,)),
        Gate("rz", (3,)),
    ),
)


def tiny(**changes: Any) -> Scenario:
    """Wine on four qubits in two parts."""
    return parse_scenario(TINY | changes)


@pytest.fixture(scope="module", autouse=True)
def two_starts() -> Iterator[None]:
    """Figures of traces need more, and have a file of their own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("qumos_env.unlearning.measurement.STARTS", 2)
        yield


@pytest.fixture(scope="module")
def service() -> Service:
    return Service.train(Workload(tiny()), DESIGN, seed=7)


@pytest.fixture(scope="module")
def task(service: Service) -> Withdrawal:
    return withdraw_random(service, 6)


def mean_loss(task: Withdrawal, parameters: Parameters, rows: np.ndarray) -> np.ndarray:
    """Mean cross-entropy of the chosen training rows, per model, from the model's public answers."""
    answers = task.model.probabilities(parameters, task.inputs)
    losses = -np.log(np.take_along_axis(answers, task.labels[..., None], axis=-1)[..., 0])
    return np.array([one[mine].mean() for one, mine in zip(losses, rows, strict=True)])


def test_retraining_trains_on_the_retained_rows_and_nothing_else(service: Service, task: Withdrawal) -> None:
    """The same as the plain training of a model whose data set never had the rows, preprocessing included."""
    kept = np.stack([rows[~gone] for rows, gone in zip(task.train, task.forget, strict=True)])
    owners = [service.workload.owner(rows) for rows in kept]
    inputs = np.stack([owner.transform(service.features[rows]) for owner, rows in zip(owners, kept, strict=True)])
    expected = service.model.train_many(inputs, service.labels[kept], task.keys)
    found = unlearn(task, "retrain").service
    np.testing.assert_allclose(found.encode(kept), inputs)
    # By their answers: two angles of the design change none, and wander with the rounding of their zero gradients.
    answers = service.model.probabilities(expected, inputs)
    np.testing.assert_allclose(service.model.probabilities(found.trained, inputs), answers, atol=1e-5)
    for other in (service.trained, retrain(replace(task, start=1)).service.trained):
        assert np.abs(service.model.probabilities(other, inputs) - answers).max(axis=(1, 2)).min() > 0.1


def test_squared_gradients_are_those_of_single_rows(task: Withdrawal) -> None:
    """Against central differences of log p(label), angles and head."""
    values, n_angles, step = task.values, DESIGN.n_trainable, 1e-2
    found = squared_gradients(task, values)
    for parameter in (0, n_angles - 1, n_angles, values.shape[1] - 1):
        shifted = []
        for sign in (1, -1):
            moved = values.copy()
            moved[:, parameter] += sign * step
            answers = task.model.probabilities(Parameters(moved[:, :n_angles], moved[:, n_angles:]), task.inputs)
            shifted.append(np.log(np.take_along_axis(answers, task.labels[..., None], axis=-1)[..., 0]))
        slope = (shifted[0] - shifted[1]) / (2 * step)
        np.testing.assert_allclose(found[..., parameter], slope**2, atol=5e-3, rtol=2e-2)


def test_dampening_follows_its_formula(task: Withdrawal) -> None:
    """Selected parameters shrink by λ·F_D/F_U, the others stay, and whole turns of an angle make no difference."""
    squares = squared_gradients(task, task.values)
    withdrawn = np.stack([one[gone].mean(axis=0) for one, gone in zip(squares, task.forget, strict=True)])
    everything = squares.mean(axis=1)
    angles = np.angle(np.exp(1j * task.service.trained.angles))
    values = np.concatenate([angles, task.service.trained.head], axis=1)
    found = selective_synaptic_dampening(task, selection=1.5, dampening=0.8).service.trained
    chosen = withdrawn > 1.5 * everything
    assert chosen.any() and not chosen.all()
    expected = np.where(chosen, np.minimum(0.8 * everything / withdrawn, 1) * values, values)
    np.testing.assert_allclose(np.concatenate([found.angles, found.head], axis=1), expected, atol=1e-5)
    turned = replace(task.service, trained=Parameters(task.service.trained.angles + 2 * np.pi, task.service.trained.head))
    again = selective_synaptic_dampening(Withdrawal(turned, task.forget), selection=1.5, dampening=0.8).service.trained
    np.testing.assert_allclose(again.angles, found.angles, atol=1e-3)


def test_dampening_selects_nothing_beyond_one_over_the_share(task: Withdrawal) -> None:
    """F_D holds the withdrawn rows too, so F_U/F_D is at most all rows over withdrawn rows; the answers stay."""
    found = selective_synaptic_dampening(task, selection=36 / 6 + 1e-6).service.trained
    before = task.model.probabilities(task.service.trained, task.inputs)
    np.testing.assert_allclose(task.model.probabilities(found, task.inputs), before, atol=1e-5)


def test_ascent_ends_where_the_rows_look_unseen(task: Withdrawal) -> None:
    """The loss of the withdrawn rows rises to its goal and at most a step beyond; without steps nothing happens."""
    goal, before = unseen_loss(task), mean_loss(task, task.service.trained, task.forget)
    after = gradient_ascent(task).service.trained
    reached = mean_loss(task, after, task.forget)
    already = before >= goal
    assert not already.all()
    assert (reached >= np.minimum(goal, before) - 1e-3).all() and (reached[~already] < goal[~already] + 0.15).all()
    np.testing.assert_array_equal(after.angles[already], task.service.trained.angles[already])
    np.testing.assert_array_equal(gradient_ascent(task, steps=0).service.trained.angles, task.service.trained.angles)


def test_the_goal_is_the_loss_of_unseen_rows_of_the_same_classes(service: Service, task: Withdrawal) -> None:
    """For rows of a class that stays; for a whole class, how improbable the retained rows find it."""
    answers = service.model.probabilities(service.trained, service.encode(task.unseen))
    for index in range(4):
        wanted = []
        for label in task.labels[index][task.forget[index]]:
            wanted.append(-np.log(answers[index][service.labels[task.unseen[index]] == label, label]).mean())
        assert unseen_loss(task)[index] == pytest.approx(np.mean(wanted), rel=1e-5)
    whole = withdraw_class(service, "class_1")
    on_train = service.model.probabilities(service.trained, whole.inputs)
    for index in range(4):
        expected = -np.log(on_train[index][whole.labels[index] != 1, 1]).mean()
        assert unseen_loss(whole)[index] == pytest.approx(expected, rel=1e-5)


def test_relative_ascent_spares_the_retained_rows(service: Service) -> None:
    """At the same loss of a forgotten class, the retained rows have lost less than with plain ascent."""
    task = withdraw_class(service, "class_0")
    plain, relative = (run(task).service.trained for run in (gradient_ascent, relative_gradient_ascent))
    np.testing.assert_allclose(mean_loss(task, plain, task.forget), mean_loss(task, relative, task.forget), atol=0.2)
    assert mean_loss(task, relative, ~task.forget).mean() < mean_loss(task, plain, ~task.forget).mean() - 0.02


@pytest.fixture(scope="module")
def wine() -> dict[str, UnlearningReport]:
    workload = Workload(load_scenario("wine-combined"))
    design = ry_cz_ry(contiguous(6, 2), ["aurora", "borealis"], 2)
    return compare_mechanisms(workload, design, "class:class_1", list(MECHANISMS), [300])


def test_every_mechanism_comes_closer_to_a_model_that_never_saw_the_class(wine: dict[str, UnlearningReport]) -> None:
    """On the withdrawn rows, over 16 draws of a shipped scenario, beyond the interval; retraining is the control itself."""
    assert set(wine) == {"ga", "rga", "ssd", "finetune", "reset", "influence", "distill", "short", "retrain"}
    for name, report in wine.items():
        assert report.models == 16 and report.forgotten == 14 and report.train_rows == 36 and report.changed > 0.5
        assert report.closer
        for gain in ("forget total variation", "forget log-odds difference", "loss gap"):
            assert report.gains[gain].low > 0, (name, gain)
    assert wine["retrain"].figure("forget total variation").after.mean == pytest.approx(0, abs=1e-9)


def test_low_accuracy_alone_is_not_called_forgetting(wine: dict[str, UnlearningReport]) -> None:
    """The retrained model never answers with a class it has not seen; that figure stands beside, and a note says so."""
    report = wine["ga"]
    assert report.figure("forget accuracy").before.mean > 0.8
    assert report.figure("forget accuracy").retrained.mean < 0.3
    assert any("no evidence of forgetting" in note for note in report.notes)
    # The floor: two retrainings are not alike, and nearer than the original.
    distance = report.figure("forget total variation")
    assert 0.02 < distance.retrained.mean < distance.before.mean


def test_figures_with_shots_are_noisier_and_converge(wine: dict[str, UnlearningReport]) -> None:
    """Even the retrained model is at a distance from itself, less so with more shots."""
    noise = [wine["retrain"].figure(f"forget total variation{shots}").after.mean for shots in (", 100 shots", ", 1000 shots", "")]
    assert noise[0] > noise[1] > noise[2] - 1e-12 and noise[0] > 0.02


def test_uqi_is_forgetting_less_half_of_what_else_is_lost(wine: dict[str, UnlearningReport]) -> None:
    """From the reported accuracies, for the unlearned and the retrained model."""
    report = wine["ssd"]
    forget, retain, test, uqi = (report.figure(name) for name in ("forget accuracy", "retain accuracy", "test accuracy", "UQI"))
    for which in ("after", "retrained"):
        drops = [figure.before.mean - getattr(figure, which).mean for figure in (forget, retain, test)]
        assert getattr(uqi, which).mean == pytest.approx(drops[0] - (drops[1] + drops[2]) / 2)
    assert uqi.before.mean == 0


def test_membership_is_scored_within_classes_on_rows_of_no_other_use(service: Service, task: Withdrawal) -> None:
    """For one withdrawn class the AUC of scikit-learn, against rows that neither trained nor stopped anything."""
    whole = withdraw_class(service, "class_1")
    figures = measure(whole, ["retrain"])["retrain"].figures["membership AUC"]
    fresh = service.together("score")
    on_train, on_fresh = (service.model.probabilities(service.trained, service.encode(rows)) for rows in (whole.train, fresh))
    for index in range(4):
        members = on_train[index][whole.forget[index], 1]
        others = on_fresh[index][service.labels[fresh[index]] == 1, 1]
        truth = np.repeat([1, 0], [len(members), len(others)])
        assert figures[0, index] == pytest.approx(roc_auc_score(truth, np.concatenate([members, others])), abs=1e-6)
        assert not set(fresh[index]) & (set(whole.train[index]) | set(task.unseen[index]) | set(service.test[index]))


def test_rows_learned_by_heart_are_forgotten() -> None:
    """Planted: withdrawn rows with wrong labels, which a model only gets right if it was trained on them."""
    workload = Workload(tiny(draws={"count": 4, "train_rows": 24, "tuning_rows": 15}, model={"steps": 300}))
    dataset, draws = workload.protocol.dataset, workload.protocol.draws(0)[:1]
    rows = draws[0].train[::4]
    wrong = dataset.labels.copy()
    wrong[rows] = (wrong[rows] + 1) % 3
    workload.protocol = replace(workload.protocol, observed_labels=wrong)
    owner = workload.owner(draws[0].train)
    model = QNN(ry_cz_ry(contiguous(4, 2), ["aurora", "borealis"], 4), 3, workload.scenario.model, "ry")
    inputs = owner.transform(dataset.features[draws[0].train])
    trained = model.train_many(inputs[None], wrong[draws[0].train][None], [(0, 0)])
    task = withdraw_rows(Service(workload, 0, model, trained, draws, (owner,)), [rows])
    for measured in measure(task, ["ga", "rga"]).values():
        report = summarise([measured])
        accuracy, distance = report.figure("forget accuracy"), report.figure("forget total variation")
        assert accuracy.before.mean > 0.8 and accuracy.retrained.mean < 0.4
        assert distance.before.mean > 0.4 and distance.retrained.mean < 0.2
        assert distance.after.mean < distance.before.mean - 0.15
        assert report.figure("retain accuracy").after.mean > 0.8
        assert not any("training noise" in note for note in report.notes)


def test_rows_that_left_no_trace_are_called_so(service: Service) -> None:
    """A row or two of many like them: the original is no farther from a retraining than another retraining is."""
    report = summarise([measure(withdraw_random(service, 2), ["ga"])["ga"]])
    distance = report.figure("forget total variation")
    assert distance.before.mean < distance.retrained.mean
    assert any("training noise" in note for note in report.notes)


def test_what_cannot_be_measured_is_null(service: Service) -> None:
    """Fewer rows than a membership attack needs: NaN with a note, null in JSON; a single model has no interval over models."""
    few = withdraw_random(service, LEAST_MEMBERS - 1)
    report = summarise([measure(few, ["ga"])["ga"]])
    assert np.isnan(report.figure("membership AUC").before.mean)
    assert any("membership" in note for note in report.notes)
    found = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    auc = next(figure for figure in found["figures"] if figure["name"] == "membership AUC")
    assert auc["after"] == {"mean": None, "low": None, "high": None}
    one = replace(service, trained=Parameters.stack([service.trained[0]]), rows=service.rows[:1], preprocessors=service.preprocessors[:1])
    alone = summarise([measure(withdraw_random(one, 6), ["ssd"])["ssd"]])
    assert np.isnan(alone.figure("forget accuracy").after.low)
    assert alone.figure("membership AUC").after.low < alone.figure("membership AUC").after.mean


def test_the_same_seed_gives_the_same_report(service: Service) -> None:
    """Bit for bit, shots included."""
    reports = [summarise([measure(withdraw_random(service, 6), ["rga"])["rga"]]).to_dict() for _ in range(2)]
    assert reports[0] == reports[1]


TRAIN = np.array([0, 2, 5, 7, 11, 13, 17])
LABELS = np.array([0, 1, 2] * 7)
NAMES = ("setosa", "3", "common", "absent")


@pytest.mark.parametrize(
    ("text", "rows"),
    [("5,7", [5, 7]), (" 7 , 5,5", [5, 7]), ("11-11,0", [0, 11]), ("class:setosa", [0]), ("class:3", [7, 13])],
)
def test_forget_texts(text: str, rows: list[int]) -> None:
    """Numbers, ranges and classes, sorted and each once."""
    assert parse_forget(text, TRAIN, LABELS, NAMES).tolist() == rows


def test_forget_files(tmp_path: Path) -> None:
    """One number a line; a bad line is named."""
    path = tmp_path / "rows.txt"
    path.write_text("13\n\n 7\n", encoding="utf-8")
    assert parse_forget(str(path), TRAIN, LABELS, NAMES).tolist() == [7, 13]
    path.write_text("13\nseven\n", encoding="utf-8")
    with pytest.raises(QumosError, match=r"rows.txt, line 2: 'seven'"):
        parse_forget(str(path), TRAIN, LABELS, NAMES)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(QumosError, match="not UTF-8"):
        parse_forget(str(path), TRAIN, LABELS, NAMES)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no rows"),
        ("class:absent", "no rows"),
        ("5,6", "row 6 is not among the 7 training rows; the nearest that is has number 5"),
        ("2-17", "row 3 is not"),
        ("0,2,5,7,11,13,17", "all 7 training rows"),
        ("0,2,5,11,17", "one class only"),
        ("17-11", "ends before it starts"),
        ("3-", "neither a row number"),
        ("-3", "neither a row number"),
        ("0-999999999999999", "row 999999999999999 does not exist, the data set has rows 0 to 20"),
        ("9" * 5000, "neither a row number"),
        ("class:Setosa", "did you mean setosa"),
        ("nowhere.txt", "'nowhere.txt' is neither row numbers"),
        ("/dev/zero", "not a regular file"),
        ("a\0b", "neither row numbers"),
    ],
)
def test_wrong_forget_sets_are_named(text: str, words: str) -> None:
    """One line each."""
    with pytest.raises(QumosError, match=re.escape(words)) as caught:
        parse_forget(text, TRAIN, LABELS, NAMES)
    assert "\n" not in str(caught.value)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export_bundle(DESIGN, tiny(), tmp_path_factory.mktemp("bundles") / "bundle", seed=3)


def test_the_parameters_of_a_bundle_are_read_back(bundle: Path) -> None:
    """Angles from the providers' circuits in canonical order, head from the owner's folder; another encoding is refused."""
    workload = Workload(tiny())
    draw = workload.draws(3, "test")[0]
    trained = QNN(DESIGN, 3, workload.scenario.model, "ry").train(draw.train, draw.train_labels, draw.key)
    found = read_bundle(bundle).parameters("ry")
    np.testing.assert_allclose(found.angles, trained.angles, atol=1e-12)
    np.testing.assert_array_equal(found.head, trained.head)
    with pytest.raises(QumosError, match=r"part 0 .* rx encoding"):
        read_bundle(bundle).parameters("rx")


@pytest.mark.parametrize("method", list(MECHANISMS))
def test_a_bundle_forgets_rows(bundle: Path, method: str, tmp_path: Path) -> None:
    """The new bundle is complete, holds the unlearned model, says what was done and not to whom; the old one stays as it was."""
    workload, stages = Workload(tiny()), []
    before = {path: path.read_bytes() for path in bundle.rglob("*") if path.is_file()}
    rows = workload.protocol.draws(3)[0].train[[1, 5, 9, 20, 21, 30]]
    text = ",".join(map(str, rows))
    out = tmp_path / "forgotten"
    report = unlearn_bundle(
        bundle, text, method, out, scenario=tiny(), workload=workload, on_progress=lambda done, total: stages.append((done, total))
    )
    assert stages and stages[-1][0] == stages[-1][1]
    manifest = read_bundle(out).manifest
    record: Any = manifest["unlearning"]
    assert (record["method"], record["forgotten_rows"]) == (method, 6)
    assert record["rows_digest"] == rows_digest(bundle, rows) != rows_digest(bundle, rows[1:])
    assert record["report"] == json.loads(json.dumps(report.to_dict()))
    assert text not in (out / "manifest.json").read_text(encoding="utf-8")
    assert before == {path: path.read_bytes() for path in bundle.rglob("*") if path.is_file()}

    service = bundle_module._victim(bundle, read_bundle(bundle), workload)
    expected = unlearn(withdraw_rows(service, [rows]), method).service
    test = workload.protocol.draws(3)[0].test
    answers = expected.model.probabilities(expected.trained, expected.encode(test[None]))[0]
    np.testing.assert_allclose(read_bundle(out).predict_proba(service.features[test]), answers, atol=1e-4)
    assert manifest["test_accuracy"] == pytest.approx(np.mean(answers.argmax(axis=1) == service.labels[test]))
    original = read_bundle(bundle).predict_proba(service.features[test])
    assert report.changed == 0 or np.abs(original - answers).max() > 1e-3
    with pytest.raises(QumosError, match="forgotten rows already"):
        unlearn_bundle(out, text, method, tmp_path / "twice", scenario=tiny())


def test_bundles_that_cannot_forget_are_refused(bundle: Path, tmp_path: Path) -> None:
    """Damage, another scenario, other data, an unknown name or method, an existing folder: one line, and nothing is written."""
    out = tmp_path / "out"
    damaged = tmp_path / "damaged"
    for path in [path for path in bundle.rglob("*") if path.is_file()]:
        (damaged / path.relative_to(bundle)).parent.mkdir(parents=True, exist_ok=True)
        (damaged / path.relative_to(bundle)).write_bytes(path.read_bytes())
    head = damaged / "owner" / "head.json"
    head.write_bytes(head.read_bytes() + b" ")
    row = str(Workload(tiny()).protocol.draws(3)[0].train[0])
    with pytest.raises(QumosError, match=r"head\.json fails its checksum"):
        unlearn_bundle(damaged, row, "ga", out, scenario=tiny())
    with pytest.raises(QumosError, match="'tiny', which is not built in"):
        unlearn_bundle(bundle, row, "ga", out)
    with pytest.raises(QumosError, match="give the scenario file that it was exported with"):
        unlearn_bundle(bundle, row, "ga", out, scenario=tiny(model={"steps": 31}))
    with pytest.raises(QumosError, match="unknown unlearning method 'gaa'; did you mean"):
        unlearn_bundle(bundle, row, "gaa", out, scenario=tiny())
    test_row = Workload(tiny()).protocol.test[0]
    with pytest.raises(QumosError, match=f"row {test_row} is not among the 36 training rows"):
        unlearn_bundle(bundle, str(test_row), "ga", out, scenario=tiny())
    other = Workload(tiny())
    other.protocol = replace(other.protocol, dataset=replace(other.protocol.dataset, features=other.protocol.dataset.features[::-1].copy()))
    with pytest.raises(QumosError, match="not the one that the bundle was trained on"):
        unlearn_bundle(bundle, row, "ga", out, workload=other)
    with pytest.raises(QumosError, match="--force"):
        unlearn_bundle(bundle, row, "ga", bundle, scenario=tiny())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["damaged"]


def test_the_digest_reads_only_what_the_bundle_lists(bundle: Path, tmp_path: Path) -> None:
    """Not a pipe that somebody put beside it, nor a link to elsewhere."""
    before = rows_digest(bundle, [1, 2])
    folder = tmp_path / "copy"
    shutil.copytree(bundle, folder)
    os.mkfifo(folder / "owner" / "pipe.json")
    (folder / "providers" / "link.json").symlink_to("/dev/zero")
    assert rows_digest(folder, [2, 1]) == before
    (folder / "owner" / "head.json").write_text("{}", encoding="utf-8")
    with pytest.raises(QumosError, match="checksum"):
        rows_digest(folder, [1, 2])


def test_a_failure_while_writing_leaves_nothing(bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a folder nor a temporary one."""

    def fail(*_: Any, **__: Any) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("qumos_env.deployment.export.to_openqasm3", fail)
    row = str(Workload(tiny()).protocol.draws(3)[0].train[0])
    with pytest.raises(OSError, match="disk full"):
        unlearn_bundle(bundle, row, "ssd", tmp_path / "out", scenario=tiny())
    assert list(tmp_path.iterdir()) == []
