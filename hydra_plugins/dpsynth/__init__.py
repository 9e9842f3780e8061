"""What dpsynth adds to Hydra; Hydra finds it by the name of the folder above."""
