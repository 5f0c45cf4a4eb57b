"""The largest inner products, by hnswlib and usearch, on the files that `cargo bench --bench index` writes.

python index.py FOLDER

Prints, per candidates kept while searching, recall@10 and queries per second on one thread, up to a recall of 0.99;
and seconds to build on two threads, with bytes per vector. Each is the best of three rounds.
"""
import sys
import time

import faiss
import hnswlib
import numpy as np
import psutil
import usearch.index

K, M, EF_CONSTRUCTION, DIMENSION = 10, 16, 200, 64
EF_SEARCH = [10, 20, 30, 40, 60, 80, 120, 160, 240, 320, 480, 640, 1280]


def read(folder, name):
    return np.fromfile(f"{folder}/{name}.f32", "<f4").reshape(-1, DIMENSION)


def measure(name, build, search, vectors, queries, worst):
    resident = lambda: psutil.Process().memory_info().rss
    before, since = resident(), time.perf_counter()
    index = build(vectors)
    seconds = time.perf_counter() - since
    print(f"{name}: built in {seconds:.1f} s, {(resident() - before) / len(vectors):.0f} bytes per vector", flush=True)
    for ef in EF_SEARCH:
        best = float("inf")
        for _ in range(3):
            since = time.perf_counter()
            rows = search(index, queries, ef)
            best = min(best, time.perf_counter() - since)
        scores = np.einsum("qkd,qd->qk", vectors[rows.astype(np.int64)], queries)
        hits = (scores >= worst[:, None] - 1e-5 * np.abs(worst[:, None])).sum(1)
        recall = np.minimum(hits, K).mean() / K
        print(f"  ef {ef:>4}  recall@{K} {recall:.4f}  {len(queries) / best:>8.0f} queries per second", flush=True)
        if recall >= 0.99:
            break


def build_hnswlib(vectors):
    index = hnswlib.Index("ip", DIMENSION)
    index.init_index(len(vectors), ef_construction=EF_CONSTRUCTION, M=M)
    index.set_num_threads(2)
    index.add_items(vectors)
    index.set_num_threads(1)
    return index


def search_hnswlib(index, queries, ef):
    index.set_ef(ef)
    return index.knn_query(queries, K)[0]


def build_usearch(vectors):
    index = usearch.index.Index(ndim=DIMENSION, metric="ip", dtype="f32", connectivity=M, expansion_add=EF_CONSTRUCTION)
    index.add(np.arange(len(vectors)), vectors, threads=2)
    return index


def search_usearch(index, queries, ef):
    index.expansion_search = ef
    return index.search(queries, K, threads=1).keys


def main():
    vectors, queries = (read(sys.argv[1], name) for name in ("vectors", "queries"))
    exact = faiss.IndexFlatIP(DIMENSION)
    exact.add(vectors)
    worst = exact.search(queries, K)[0][:, -1]
    measure("hnswlib 0.8.0", build_hnswlib, search_hnswlib, vectors, queries, worst)
    measure("usearch 2.26", build_usearch, search_usearch, vectors, queries, worst)


if __name__ == "__main__":
    main()
