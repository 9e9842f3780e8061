"""Runs DGAN of `gretel-synthetics` some steps at a time on request; needs nothing of this project.

    PYTHON peer_dgan.py TABLE.csv FACTS.json

Prints one JSON line when ready, then the seconds of `steps` training steps for every line that it reads. The
package's own training loop runs unchanged; its progress callback, called after each batch, is what waits.
"""

import json
import sys
import time
from importlib.metadata import version


def main() -> None:
    import pandas as pd
    import torch
    from gretel_synthetics.timeseries_dgan.config import DfStyle, DGANConfig
    from gretel_synthetics.timeseries_dgan.dgan import DGAN

    facts = json.loads(open(sys.argv[2], encoding="utf-8").read())
    torch.set_num_threads(1)
    now = time.process_time if facts["clock"] == "cpu" else time.perf_counter
    steps, taken, start = facts["steps"], 0, 0.0

    def waiting(_info) -> None:
        nonlocal taken, start
        if taken % steps == 0:
            ready = json.dumps({"version": version("gretel-synthetics")})
            print(now() - start if taken else ready, flush=True)
            if sys.stdin.readline().strip() != "go":
                sys.exit()
            start = now()
        taken += 1

    config = DGANConfig(
        max_sequence_len=facts["max_length"],
        sample_len=facts["sample_len"],
        batch_size=facts["batch_size"],
        epochs=10**6,
        cuda=False,
    )
    DGAN(config).train_dataframe(
        pd.read_csv(sys.argv[1]),
        attribute_columns=facts["attributes"],
        feature_columns=facts["features"],
        example_id_column=facts["entity"],
        time_column=facts["time"],
        discrete_columns=facts["discrete"],
        df_style=DfStyle.LONG,
        progress_callback=waiting,
    )


if __name__ == "__main__":
    main()
