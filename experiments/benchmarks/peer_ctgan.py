"""Runs the `ctgan` package one epoch at a time on request; needs nothing of this project.

    PYTHON peer_ctgan.py {tvae|ctgan} TABLE.csv BATCH_SIZE CLOCK COLUMN,COLUMN…

The last argument names the discrete columns. Prints one JSON line when ready, then the seconds of one epoch
for every line that it reads. The package's own training loop runs unchanged; its progress bar is what waits.
"""

import json
import sys
import time
from importlib.metadata import version


def main() -> None:
    name, path, batch_size, clock, discrete = sys.argv[1:6]
    import pandas as pd
    import torch

    torch.set_num_threads(1)
    from ctgan.synthesizers import ctgan, tvae

    now = time.process_time if clock == "cpu" else time.perf_counter
    model = {"tvae": tvae.TVAE, "ctgan": ctgan.CTGAN}[name](batch_size=int(batch_size), epochs=1)

    def waiting(_epochs, **_options):
        transformer = getattr(model, "transformer", None) or model._transformer
        width = int(transformer.output_dimensions)
        print(json.dumps({"version": version("ctgan"), "width": width}), flush=True)
        while sys.stdin.readline().strip() == "go":
            start = now()
            yield 0
            print(now() - start, flush=True)

    tvae.tqdm = ctgan.tqdm = waiting
    model.fit(pd.read_csv(path, keep_default_na=False), [column for column in discrete.split(",") if column])


if __name__ == "__main__":
    main()
