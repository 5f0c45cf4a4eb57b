"""Batch recommendations by the library `implicit`, from the vectors that `cargo bench --bench batch` leaves.

python batch.py FOLDER FACTORS

The best 20 products of every member by inner product, in batches on all cores, as the library's `recommend` finds them.
"""
import os

os.environ["OPENBLAS_NUM_THREADS"] = "1"

import resource
import sys
import time

import numpy as np
from implicit.cpu.als import AlternatingLeastSquares

TOP = 20
BATCHES = (1024, 16384)
MEMBERS = 200_000


def main():
    folder, factors = sys.argv[1], int(sys.argv[2])
    members, products = (
        np.fromfile(f"{folder}/{side}.f32", "<f4").reshape(-1, factors) for side in ("members", "products")
    )
    model = AlternatingLeastSquares(factors=factors, num_threads=os.cpu_count())
    model.user_factors, model.item_factors = members, products
    for batch in BATCHES:
        rows = np.arange(min(MEMBERS, len(members)))
        start = time.perf_counter()
        for first in range(0, len(rows), batch):
            model.recommend(rows[first : first + batch], None, N=TOP, filter_already_liked_items=False)
        seconds = time.perf_counter() - start
        print(f"implicit, batches of {batch}: {len(rows) / seconds:.0f} members/s")
    print(f"peak {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MB")


if __name__ == "__main__":
    main()
