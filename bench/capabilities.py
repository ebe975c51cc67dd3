"""The capabilities of CPU and GPU; `python bench/capabilities.py` prints {"amx": false, "bf16": true, "gpu": false}."""

import json

import torch

if __name__ == "__main__":
    able = torch.cpu.get_capabilities()
    gpu = torch.cuda.is_available() and torch.cuda.get_device_name()
    print(json.dumps({"amx": bool(able.get("amx_bf16")), "bf16": bool(able.get("avx512_bf16")), "gpu": gpu}))
