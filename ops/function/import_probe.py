"""The program of the package's preflight: import the handler as Lambda does before its first call, and print what that took.

preflight.py starts it as `python -I -B import_probe.py FOLDER MODULE.FUNCTION`, where it knows nothing of this checkout.
"""

import importlib
import json
import sys
import time


def import_handler(folder: str, handler: str) -> dict[str, object]:
    module, _, function = handler.rpartition(".")
    sys.path.insert(0, folder)
    began = time.process_time()
    try:
        loaded = importlib.import_module(module)
    except Exception as error:
        return {"error": f"{type(error).__name__}: {error}"}
    took = time.process_time() - began
    if not callable(getattr(loaded, function, None)):
        return {"error": f"module {module} has no function {function}"}
    return {"cpu_s": took}


if __name__ == "__main__":
    sys.stdout.write("\n" + json.dumps(import_handler(*sys.argv[1:])))
