"""Launches the committed cubins from Python, as an engine would: by the manifest and nothing else. Needs a GPU, torch and libcuda.so.1; `Dry` needs
neither: it checks arguments only."""

import ctypes

import catalogue

CTYPES = {"i32": ctypes.c_int32, "i64": ctypes.c_int64, "f32": ctypes.c_float}
MAX_DYNAMIC_SHARED = 8


def checked(entry, args):
    """Arguments as C values in the order of the entry's parameters, with two of scratch behind them."""
    params = entry["params"]
    assert len(args) == len(params), f"{entry['id']} takes {[p['name'] for p in params]}, got {len(args)}"
    values = []
    for param, arg in zip(params, args):
        at = f"{entry['id']}: {param['name']}"
        if param["type"].startswith("ptr:"):
            address = 0 if arg is None else arg.data_ptr()
            wanted = {"f32": "float32", "bf16": "bfloat16", "f16": "float16", "i32": "int32", "u8": "uint8", "i8": "int8", "f8": "float8_e4m3fn"}
            assert arg is None or str(arg.dtype) == "torch." + wanted[param["type"][4:]], f"{at} is {arg.dtype}"
            assert not param["div16"] or address % 16 == 0, f"{at} is not on 16 bytes"
            values.append(ctypes.c_uint64(address))
        else:
            assert not param["div16"] or arg % 16 == 0, f"{at} is {arg}, no multiple of 16"
            values.append(CTYPES[param["type"]](arg))
    return [*values, ctypes.c_uint64(0), ctypes.c_uint64(0)]


class Dry:
    """Checks what would be launched."""

    device, is_dry = "cpu", True

    def __init__(self):
        self.entries = {entry["id"]: entry for entry in catalogue.read_manifest()["kernels"]}

    def launch(self, id_, grid, *args):
        grid = (*grid, 1, 1)[:3]
        assert all(0 < n for n in grid) and grid[1] < 65536 and grid[2] < 65536, f"{id_}: grid {grid}"
        self.run(self.entries[id_], grid, checked(self.entries[id_], args))

    def run(self, entry, grid, values):
        """Nothing."""

    def synchronise(self):
        """Nothing."""


class Gpu(Dry):
    """Launches on the stream that torch uses."""

    device, is_dry = "cuda", False

    def __init__(self):
        super().__init__()
        import torch

        torch.cuda.init()
        torch.zeros(1, device="cuda")
        self.torch, self.cuda, self.functions = torch, ctypes.CDLL("libcuda.so.1"), {}

    def call(self, name, *args):
        code = getattr(self.cuda, name)(*args)
        assert code == 0, f"{name} returned {code}"

    def function(self, entry):
        if entry["id"] not in self.functions:
            image = (catalogue.GPU / entry["cubin"]).read_bytes()
            module, function = ctypes.c_void_p(), ctypes.c_void_p()
            self.call("cuModuleLoadData", ctypes.byref(module), image)
            self.call("cuModuleGetFunction", ctypes.byref(function), module, entry["kernel"].encode())
            if entry["shared"] > 48 * 1024:
                self.call("cuFuncSetAttribute", function, MAX_DYNAMIC_SHARED, entry["shared"])
            self.functions[entry["id"]] = function
        return self.functions[entry["id"]]

    def run(self, entry, grid, values):
        pointers = (ctypes.c_void_p * len(values))(*(ctypes.cast(ctypes.byref(v), ctypes.c_void_p) for v in values))
        stream = ctypes.c_void_p(self.torch.cuda.current_stream().cuda_stream)
        block = (32 * entry["num_warps"], 1, 1)
        self.call("cuLaunchKernel", self.function(entry), *grid, *block, entry["shared"], stream, pointers, None)

    def synchronise(self):
        self.torch.cuda.synchronize()
