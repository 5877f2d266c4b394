"""How far several people agree beyond chance: Krippendorff's alpha, by crowd-kit."""

from collections.abc import Mapping


def alpha(answers: Mapping[str, Mapping[str, str]]) -> tuple[float, int] | None:
    """(alpha, pairs it stands on) of answers by person and pair: 1 agreement, 0 chance.

    `answers`: person -> pair_id -> choice. Pairs that one person alone answered say nothing about
    agreement and are left out. None where no pair has two answers, or all answers are the same:
    chance would then agree as well (Krippendorff 2004, nominal data).
    """
    import pandas as pd
    from crowdkit.metrics.data import alpha_krippendorff

    rows = [
        {"task": pair_id, "worker": person, "label": choice}
        for person, given in answers.items()
        for pair_id, choice in given.items()
    ]
    if not rows:
        return None
    frame = pd.DataFrame.from_records(rows)
    people = frame.groupby("task")["worker"].transform("nunique")
    frame = frame[people > 1]
    if frame.empty or frame["label"].nunique() < 2:
        return None
    return float(alpha_krippendorff(frame)), int(frame["task"].nunique())
