"""Lets another package make a table; needs nothing of this project.

    PYTHON peer_rows.py FACTS.json TABLE.csv OUT.csv

The facts name the method, the budget and what is declared about each column. Prints one JSON line: the
package's version and the seconds of its training and sampling. The package's defaults hold unless a line
below says otherwise.
"""

import json
import sys
import time
from importlib.metadata import version

EMPTY = "(empty)"  # missing values of a discrete column, where a package knows none


def main() -> None:
    path, table, out = sys.argv[1:4]
    import pandas as pd

    with open(path, encoding="utf-8") as file:
        facts = json.load(file)
    frame = pd.read_csv(table, dtype=dict.fromkeys(facts["discrete"], "object"))
    frame[list(facts["discrete"])] = frame[list(facts["discrete"])].fillna(EMPTY)
    package, _, model = facts["method"].partition("/")
    start = time.perf_counter()
    made = {"ctgan": ctgan, "dpmm": dpmm}[package](model, frame, facts)
    seconds = time.perf_counter() - start
    made.replace(EMPTY, None).to_csv(out, index=False)
    print(json.dumps({"version": version(package), "seconds": seconds}))


def ctgan(model, frame, facts):
    """CTGAN and TVAE of the authors, without privacy."""
    import torch
    from ctgan import CTGAN, TVAE

    torch.set_num_threads(facts["threads"])
    made = {"ctgan": CTGAN, "tvae": TVAE}[model](epochs=facts["epochs"])
    made.fit(frame, list(facts["discrete"]))
    return made.sample(facts["num_rows"])


def dpmm(model, frame, facts):
    """AIM, MST and PrivBayes; a tenth of the budget is for cutting numbers into bins, as by default.

    AIM takes 45 rounds of 300 iterations, since its own 16 per column run for hours.
    """
    from dpmm import pipelines

    cut = 0.1 * facts["epsilon"]
    fewer = {"rounds": 45, "n_iters": 300} if model == "aim" else {}
    made = {
        "aim": pipelines.AIMPipeline,
        "mst": pipelines.MSTPipeline,
        "priv_bayes": pipelines.PrivBayesPipeline,
    }[model](
        epsilon=facts["epsilon"] - cut,
        delta=facts["delta"],
        proc_epsilon=cut,
        n_jobs=facts["threads"],
        gen_kwargs=fewer,
    )
    frame[list(facts["discrete"])] = frame[list(facts["discrete"])].astype("category")
    declared = {name: {"categories": [*values, EMPTY]} for name, values in facts["discrete"].items()}
    declared |= {name: {"lower": low, "upper": high} for name, (low, high) in facts["bounds"].items()}
    made.fit(frame, domain=declared)
    return made.generate(facts["num_rows"])


if __name__ == "__main__":
    main()
