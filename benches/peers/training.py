"""Implicit ALS by the library `implicit`, on the files that `cargo bench --bench training` reads.

python training.py prepare FOLDER TRAIN.parquet HELD_OUT.parquet   a split that is there already
python training.py prepare FOLDER EVENTS.parquet                   a random tenth of the pairs held out
python training.py fit FOLDER FACTORS REGULARIZATION ALPHA ITERATIONS,ITERATIONS,...

`fit` solves by conjugate gradients on all cores with BLAS on one thread, as the library's documentation advises, and
leaves the vectors as they are after so many iterations, with the seconds that these took.
"""
import os

os.environ["OPENBLAS_NUM_THREADS"] = "1"

import resource
import sys
import time

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
import scipy.sparse as sparse

SEED = 1


def pairs(path):
    table = pq.read_table(path, columns=["member_id", "product_id"])
    return [table.column(name).combine_chunks() for name in ("member_id", "product_id")]


def write(folder, name, members, products, shape):
    matrix = sparse.csr_matrix((np.ones(len(members), np.float32), (members, products)), shape)
    matrix.sum_duplicates()
    matrix.sort_indices()
    matrix.indptr.astype("<u8").tofile(f"{folder}/{name}.offsets.u64")
    matrix.indices.astype("<u4").tofile(f"{folder}/{name}.columns.u32")


def prepare(folder, train, held_out=None):
    os.makedirs(folder, exist_ok=True)
    tables = [pairs(path) for path in (train, held_out) if path]
    rows = []
    for side in (0, 1):
        values = pc.unique(tables[0][side])
        rows.append([pc.index_in(table[side], value_set=values).to_numpy(zero_copy_only=False) for table in tables])
    shape = [int(np.nanmax(side[0])) + 1 for side in rows]
    (members, products) = (side[0].astype(np.int64) for side in rows)
    if held_out:
        known = ~(np.isnan(rows[0][1]) | np.isnan(rows[1][1]))
        write(folder, "train", members, products, shape)
        write(folder, "held_out", *(side[1][known].astype(np.int64) for side in rows), shape)
    else:
        keys = np.unique(members * shape[1] + products)
        chosen = np.random.default_rng(SEED).random(len(keys)) < 0.1
        for name, keys in (("train", keys[~chosen]), ("held_out", keys[chosen])):
            write(folder, name, keys // shape[1], keys % shape[1], shape)


def fit(folder, factors, regularization, alpha, iterations):
    from implicit.als import AlternatingLeastSquares

    wanted = [int(count) for count in iterations.split(",")]
    offsets, columns = (np.fromfile(f"{folder}/train.{name}", dtype) for name, dtype in (("offsets.u64", "<u8"), ("columns.u32", "<u4")))
    matrix = sparse.csr_matrix((np.ones(len(columns), np.float32), columns.astype(np.int32), offsets.astype(np.int32)))
    model = AlternatingLeastSquares(
        factors=int(factors), regularization=float(regularization), alpha=float(alpha), iterations=max(wanted),
        use_cg=True, use_gpu=False, num_threads=0, random_state=SEED,
    )
    spent, since, lines = [0.0], [time.perf_counter()], []

    def after(iteration, *_):
        spent[0] += time.perf_counter() - since[0]
        if iteration + 1 in wanted:
            name = f"implicit-{iteration + 1}"
            np.asarray(model.user_factors, "<f4").tofile(f"{folder}/{name}.members.f32")
            np.asarray(model.item_factors, "<f4").tofile(f"{folder}/{name}.products.f32")
            lines.append(f"{name} {iteration + 1} {spent[0]:.2f} {factors}")
            print(lines[-1], flush=True)
        since[0] = time.perf_counter()

    model.fit(matrix, show_progress=False, callback=after)
    with open(f"{folder}/peer.txt", "w") as file:
        file.write("\n".join(lines) + "\n")
    print(f"peak {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3:.0f} MB")


if __name__ == "__main__":
    {"prepare": prepare, "fit": fit}[sys.argv[1]](*sys.argv[2:])
