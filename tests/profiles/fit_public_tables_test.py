#!/usr/bin/env python3
"""scripts/fit-public-tables on tables whose answer is known, and on tables that are wrong."""
import json
import os
import subprocess
import sys
import tempfile
import unittest

SCRIPT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "scripts",
                      "fit-public-tables")
RATIO = 1.5  # measured over roofline, everywhere
DEVICES = {"a100_sxm": (312e6, 2039e3, 6.0), "h100_sxm": (989e6, 3350e3, 3.0)}


def roofline_us(device, flops, moved):
    peak, bandwidth, launch = DEVICES[device]
    return max(flops / peak, moved / bandwidth) + launch


def products(device):
    for m in (8, 9, 10, 64, 70, 76):
        for n in (1024, 1100, 1200):
            for k in (2048, 2200):
                us = RATIO * roofline_us(device, 2 * m * n * k, 2 * (m * k + n * k + m * n))
                yield f"x,bf16,{m},{n},{k},{us / 1000}"


def write_tables(folder, extra_products=(), without=None):
    for device in DEVICES:
        path = os.path.join(folder, "aic", device)
        os.makedirs(path)
        attention = ("kernel_source,batch_size,isl,num_heads,num_key_value_heads,head_dim,"
                     "window_size,attn_dtype,kv_cache_dtype,step,latency")
        heads = [f"x,{b},{s},16,16,128,0,bf16,bf16,1,0.{b}5" for b in (1, 2, 4) for s in (64, 66, 68)]
        tables = {
            "gemm_bf16": ["kernel_source,gemm_dtype,m,n,k,latency", *products(device),
                          *(extra_products if device == "a100_sxm" else ())],
            "moe_bf16": ["kernel_source,moe_dtype,num_tokens,hidden_size,inter_size,topk,num_experts,"
                         "moe_tp_size,moe_ep_size,distribution,latency",
                         *(f"x,bf16,{t},2048,1024,2,8,1,1,balanced,0.1" for t in (64, 66, 68))],
            "ctx_attn_bf16": [attention, *heads],
            "gen_attn_bf16": [attention, *heads],
            "nccl": ["op_name,kernel_source,nccl_dtype,num_gpus,message_size,latency",
                     *(f"alltoall,NCCL,half,8,{2 ** i},{0.01 + 2 ** i / 1e9}" for i in range(8, 20))],
        }
        for name, lines in tables.items():
            if name == without:
                continue
            with open(os.path.join(path, name + ".csv"), "w", encoding="utf-8") as file:
                file.write("\n".join(["# src made for a test", *lines]) + "\n")


def fitted(folder):
    out = os.path.join(folder, "out")
    run = subprocess.run([sys.executable, SCRIPT, folder, out], capture_output=True, text=True,
                         check=False)
    return run, out


class FitPublicTables(unittest.TestCase):
    def test_points_carry_the_efficiency_of_the_rows(self):
        with tempfile.TemporaryDirectory() as folder:
            write_tables(folder)
            run, out = fitted(folder)
            self.assertEqual(run.returncode, 0, run.stderr)
            with open(os.path.join(out, "dgx-h100.json"), encoding="utf-8") as file:
                profile = json.load(file)
            self.assertEqual(profile["kernels"], "public tables")
            gemm = next(t for t in profile["tables"] if t["family"] == "gemm")
            self.assertGreaterEqual(len(gemm["points"]), 2)
            for point in gemm["points"]:
                m, n, k = point["key"]
                bound = roofline_us("h100_sxm", 2 * m * n * k, 2 * (m * k + n * k + m * n))
                self.assertAlmostEqual(point["time_us"] / bound, RATIO, delta=0.01)
                self.assertLess(point["spread"], 0.01)
            self.assertLess(len(gemm["points"]), 36)  # cells, not rows

    def test_wrong_rows_are_named_skipped_and_counted(self):
        wrong = ["x,bf16,8,1024,2048,nan", "x,bf16,8,1024,2048,-1", "x,bf16,8,many,2048,1",
                 "x,bf16,500,500,500,1.0", "x,bf16,500,500,500,90.0"]
        with tempfile.TemporaryDirectory() as clean, tempfile.TemporaryDirectory() as folder:
            write_tables(clean)
            write_tables(folder, extra_products=wrong)
            run, out = fitted(folder)
            expected, reference = fitted(clean)
            self.assertEqual(run.returncode, 0, run.stderr)
            self.assertEqual(expected.returncode, 0)
            self.assertIn("5 refused", run.stdout)
            for line in (39, 40, 41, 42, 43):
                self.assertIn(f"skipped gemm_bf16:{line}:", run.stdout)
            self.assertIn("contradicts", run.stdout)
            for name in ("dgx-a100.json", "dgx-h100.json"):  # nothing of them reaches the profiles
                with open(os.path.join(out, name), encoding="utf-8") as a, \
                        open(os.path.join(reference, name), encoding="utf-8") as b:
                    self.assertEqual(a.read(), b.read())

    def test_a_missing_table_ends_the_run_with_its_name(self):
        with tempfile.TemporaryDirectory() as folder:
            write_tables(folder, without="nccl")
            run, _ = fitted(folder)
            self.assertNotEqual(run.returncode, 0)
            self.assertIn("nccl.csv", run.stderr)


if __name__ == "__main__":
    unittest.main()
