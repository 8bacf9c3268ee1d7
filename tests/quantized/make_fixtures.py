"""Make tiny models as quantised checkpoints are published, with the logits and greedy tokens of their widened weights.

usage: make_fixtures.py CONFORMANCE OUT NAME...      (NAME of CASES below; all of them without NAME)

Needs torch, transformers, safetensors and compressed-tensors. Files of compressed-tensors are written by that package, those of MXFP4 are widened
by transformers; GPTQ and AWQ are packed here, from the layouts of AutoGPTQ and AutoAWQ. Logits are of the model whose weights are the
widened ones, in float32.
"""
import json, os, shutil, sys
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM
from compressed_tensors.compressors import BaseCompressor
from compressed_tensors.quantization import QuantizationArgs, QuantizationScheme
from transformers.integrations.mxfp4 import convert_moe_packed_tensors

E4M3_MAX = 448.0
FP4 = torch.tensor([0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, -0.0, -0.5, -1.0, -1.5, -2.0, -3.0, -4.0, -6.0])


def words(codes, bits):
    """Codes [.., n] in int32 words [.., n / per], the first in the lowest bits."""
    per = 32 // bits
    codes = codes.reshape(*codes.shape[:-1], -1, per).to(torch.int64)
    packed = sum(codes[..., i] << (bits * i) for i in range(per))
    return torch.where(packed >= 2**31, packed - 2**32, packed).to(torch.int32)


def grouped(w, group, bits, symmetric):
    """Codes [n, k], scales [n, groups] in f16, zeros [n, groups]."""
    n, k = w.shape
    x = w.reshape(n, k // group, group)
    top = 2**bits - 1
    if symmetric:
        scale = (x.abs().amax(-1) / (top // 2)).half()
        zero = torch.full_like(scale, 2 ** (bits - 1)).int()
    else:
        low, high = x.amin(-1).clamp(max=0), x.amax(-1).clamp(min=0)
        scale = ((high - low) / top).half()
        zero = (-low / scale.float()).round().clamp(0, top).int()
    codes = ((x / scale.float()[..., None]).round() + zero[..., None]).clamp(0, top).int()
    wide = (codes - zero[..., None]).float() * scale.float()[..., None]
    return codes.reshape(n, k), scale, zero, wide.reshape(n, k)


def gptq(base, w, bits, group, symmetric, order, more):
    """desc_act where `order`: columns of a group lie anywhere, and a list says which group each has."""
    n, k = w.shape
    at = torch.randperm(k) if order else torch.arange(k)
    codes, scale, zero, wide = grouped(w[:, at], group, bits, symmetric)
    back = torch.argsort(at)
    tensors = {
        f"{base}.qweight": words(codes[:, back], bits).T.contiguous(),
        f"{base}.qzeros": words((zero - more).T.contiguous() & (2**bits - 1), bits),
        f"{base}.scales": scale.T.contiguous(),
        f"{base}.g_idx": (back // group).int(),
    }
    # As AutoGPTQ does it: a bias for every layer, be it of zeros.
    tensors[f"{base}.bias"] = torch.zeros(n, dtype=torch.float16)
    return tensors, wide[:, back]


def words_along_k(base, w, **how):
    tensors, wide = gptq(base, w, **how)
    k, bits = w.shape[1], how["bits"]
    codes = tensors[f"{base}.qweight"]
    assert codes.shape == (k * bits // 32, w.shape[0])
    return tensors, wide


def awq(base, w, group):
    codes, scale, zero, wide = grouped(w, group, 4, False)
    order = torch.tensor([0, 2, 4, 6, 1, 3, 5, 7])
    turned = lambda c: c.reshape(c.shape[0], -1, 8)[..., order].reshape(c.shape)
    return {
        f"{base}.qweight": words(turned(codes.T.contiguous()), 4),
        f"{base}.qzeros": words(turned(zero.T.contiguous()), 4),
        f"{base}.scales": scale.T.contiguous(),
    }, wide


def fp8_blocks(base, w, rows, columns):
    n, k = w.shape
    up = lambda a, b: -(-a // b)
    padded = torch.zeros(up(n, rows) * rows, up(k, columns) * columns)
    padded[:n, :k] = w
    blocks = padded.reshape(up(n, rows), rows, up(k, columns), columns)
    scale = blocks.abs().amax((1, 3)) / E4M3_MAX
    codes = (blocks / scale[:, None, :, None]).reshape(padded.shape)[:n, :k].to(torch.float8_e4m3fn)
    full = scale.repeat_interleave(rows, 0).repeat_interleave(columns, 1)[:n, :k]
    return {f"{base}.weight": codes.contiguous(), f"{base}.weight_scale_inv": scale}, codes.float() * full


def fp8_rows(base, w):
    scale = w.abs().amax(1, keepdim=True) / E4M3_MAX
    codes = (w / scale).to(torch.float8_e4m3fn)
    extra = {f"{base}.input_scale_ub": torch.tensor([1200.0])}
    return {f"{base}.weight": codes, f"{base}.weight_scale": scale, **extra}, codes.float() * scale


def compressed(base, w, format, args):
    """As compressed-tensors writes it, and as it reads it again."""
    args = QuantizationArgs(**args)
    n, k = w.shape
    scheme = QuantizationScheme(targets=["Linear"], weights=args)
    low, high = (-8, 7) if args.num_bits == 4 else (-128, 127)
    kind, strategy = getattr(args.type, "value", args.type), getattr(args.strategy, "value", args.strategy)
    if kind == "float" and args.num_bits == 4:
        x = w.reshape(n, -1, args.group_size)
        scale = torch.exp2(torch.floor(torch.log2(x.abs().amax(-1))) - 2)
        state = {"weight": w, "weight_scale": scale}
        if strategy == "tensor_group":
            top = torch.tensor([448.0 * 6.0]) / w.abs().max()
            scale = (x.abs().amax(-1) / 6.0 * top).to(torch.float8_e4m3fn).float()
            state = {"weight": w, "weight_scale": scale, "weight_global_scale": top}
    else:
        x = {"tensor": w.reshape(1, -1), "channel": w, "group": w.reshape(n, -1, args.group_size or k)}[strategy]
        top = E4M3_MAX if kind == "float" else high
        scale, zero = x.abs().amax(-1) / top, None
        if not args.symmetric:
            least, most = x.amin(-1).clamp(max=0), x.amax(-1).clamp(min=0)
            scale = (most - least) / (high - low)
            zero = (low - least / scale).round().clamp(low, high).to(torch.int8)
        shape = {"tensor": [1], "channel": [n, 1], "group": [n, k // (args.group_size or k)]}[strategy]
        state = {"weight": w, "weight_scale": scale.reshape(shape)}
        if zero is not None:
            state["weight_zero_point"] = zero.reshape(shape)
    kind_of = BaseCompressor.get_value_from_registry(format)
    state = kind_of.compress(state, scheme)
    wide = kind_of.decompress(dict(state), scheme)["weight"]
    if wide.dtype != torch.float32:
        # What has 4-bit floats is rounded to bfloat16 there, which is no part of the format.
        codes = torch.stack([FP4[(state["weight_packed"] >> shift & 15).long()] for shift in (0, 4)], -1)
        factors = (scale / state.get("weight_global_scale", 1.0))[..., None]
        exact = (codes.reshape(n, -1, args.group_size) * factors).reshape(n, k)
        assert (exact - wide.float()).abs().max() <= 2**-7 * exact.abs().max()
        wide = exact
    return {f"{base}.{name}": t.contiguous() for name, t in state.items()}, wide


def ct(format, **weights):
    groups = {"group_0": {"targets": ["Linear"], "weights": weights}}
    config = {"quant_method": "compressed-tensors", "format": format, "config_groups": groups, "ignore": ["lm_head"]}
    return config, lambda base, w: compressed(base, w, format, weights)


INT4 = dict(bits=4, group=32, symmetric=True, order=False, more=1)
CASES = {
    "gptq": ("llama", {"quant_method": "gptq", "bits": 4, "group_size": 32, "sym": True, "desc_act": False},
             lambda b, w: words_along_k(b, w, **INT4)),
    # Symmetric, zeros not stored less one, and no word of it: seen in published files.
    "gptq_sym_v2_zeros": ("llama", {"quant_method": "gptq", "bits": 4, "group_size": 32, "sym": True, "desc_act": False},
             lambda b, w: words_along_k(b, w, **dict(INT4, more=0))),
    "gptq_act_order": ("qwen2", {"quant_method": "gptq", "bits": 4, "group_size": 32, "sym": False, "desc_act": True},
             lambda b, w: words_along_k(b, w, **dict(INT4, symmetric=False, order=True))),
    "gptq_v2_8bit": ("llama", {"quant_method": "gptq", "bits": 8, "group_size": -1, "sym": False, "checkpoint_format": "gptq_v2"},
             lambda b, w: words_along_k(b, w, bits=8, group=w.shape[1], symmetric=False, order=False, more=0)),
    "awq": ("llama", {"quant_method": "awq", "bits": 4, "group_size": 32, "version": "gemm", "zero_point": True},
            lambda b, w: awq(b, w, 32)),
    "fp8_block": ("deepseek_v3", {"quant_method": "fp8", "fmt": "e4m3", "weight_block_size": [32, 48], "activation_scheme": "dynamic"},
                  lambda b, w: fp8_blocks(b, w, 32, 48)),
    "fbgemm_fp8": ("llama", {"quant_method": "fbgemm_fp8", "activation_scale_ub": 1200.0}, fp8_rows),
    "ct_fp8_tensor": ("llama", *ct("naive-quantized", num_bits=8, type="float", strategy="tensor", symmetric=True)),
    "ct_int8_channel": ("llama", *ct("naive-quantized", num_bits=8, type="int", strategy="channel", symmetric=True)),
    "ct_int4_group": ("llama", *ct("pack-quantized", num_bits=4, type="int", strategy="group", group_size=32, symmetric=True)),
    "ct_int4_zeros": ("llama", *ct("pack-quantized", num_bits=4, type="int", strategy="group", group_size=32, symmetric=False)),
    "ct_mxfp4": ("llama", *ct("mxfp4-pack-quantized", num_bits=4, type="float", strategy="group", group_size=32, symmetric=True)),
    "ct_nvfp4": ("llama", *ct("nvfp4-pack-quantized", num_bits=4, type="float", strategy="tensor_group", group_size=16, symmetric=True)),
    "mxfp4": ("gpt_oss", {"quant_method": "mxfp4", "modules_to_not_convert": ["lm_head"]}, None),
}


def mxfp4(name, w):
    """Experts input first [e, k, n] as blocks output first [e, n, k / 32, 16]."""
    x = w.transpose(1, 2).reshape(w.shape[0], w.shape[2], -1, 32)
    exponent = (torch.floor(torch.log2(x.abs().amax(-1))) - 2).clamp(-127, 127)
    near = (x / torch.exp2(exponent)[..., None])[..., None] - FP4
    codes = near.abs().argmin(-1).to(torch.uint8)
    blocks = codes[..., 0::2] | codes[..., 1::2] << 4
    scales = (exponent + 127).to(torch.uint8)
    wide = convert_moe_packed_tensors(blocks, scales, dtype=torch.float32)
    if wide.shape != w.shape:
        wide = wide.transpose(1, 2)
    assert wide.shape == w.shape
    return {f"{name}_blocks": blocks.contiguous(), f"{name}_scales": scales}, wide


def load(folder):
    tensors = {}
    for file in sorted(os.listdir(folder)):
        if file.startswith("model") and file.endswith(".safetensors"):
            tensors |= load_file(f"{folder}/{file}")
    return tensors


def quantised(case, name, tensor):
    matrix = tensor.ndim == 2 and not any(word in name for word in ["embed", "lm_head", "router", "mlp.gate.weight", "norm"])
    if case == "mxfp4":
        return name.endswith(("gate_up_proj", "down_proj"))
    return matrix and name.endswith(".weight")


def build(conformance, out, case):
    family, config, pack = CASES[case]
    source, folder = f"{conformance}/{family}", f"{out}/{case}"
    torch.manual_seed(sum(map(ord, case)))
    shutil.rmtree(folder, ignore_errors=True)
    os.makedirs(folder)
    file, wide = {}, {}
    source_tensors = load(source)
    for name, tensor in source_tensors.items():
        tensor = tensor.float()
        if quantised(case, name, tensor):
            packed, widened = mxfp4(name, tensor) if pack is None else pack(name.removesuffix(".weight"), tensor)
            file |= {part: t for part, t in packed.items() if not (part.endswith(".bias") and part in source_tensors)}
            wide[name] = widened.contiguous()
        else:
            # What is not quantised is half as large here, and so is what logits are computed with.
            file[name] = tensor.bfloat16()
            wide[name] = file[name].float()
    text = json.load(open(f"{source}/config.json"))
    plain = f"{folder}/plain"
    os.makedirs(plain)
    save_file(wide, f"{plain}/model.safetensors", metadata={"format": "pt"})
    json.dump(text, open(f"{plain}/config.json", "w"))
    model = AutoModelForCausalLM.from_pretrained(plain, dtype=torch.float32, attn_implementation="eager").eval()
    shutil.rmtree(plain)
    text["quantization_config"] = config
    text["torch_dtype"] = "bfloat16"
    text.pop("dtype", None)
    json.dump(text, open(f"{folder}/config.json", "w"), indent=2, sort_keys=True)
    save_file(file, f"{folder}/model.safetensors", metadata={"format": "pt"})
    cases, logits = [], {}
    draw = torch.Generator().manual_seed(7)
    for number, length in enumerate([1, 19]):
        ids = torch.randint(1, model.config.vocab_size, (1, length), generator=draw)
        with torch.no_grad():
            logits[f"logits.{number}"] = model(ids, use_cache=False).logits[0].contiguous()
            tokens = ids
            for _ in range(12):
                tokens = torch.cat([tokens, model(tokens, use_cache=False).logits[:, -1:].argmax(-1)], 1)
        cases.append(dict(prompt=ids[0].tolist(), greedy=tokens[0, length:].tolist()))
    save_file(logits, f"{folder}/expected.safetensors")
    json.dump(dict(model_type=text["model_type"], cases=cases), open(f"{folder}/expected.json", "w"), indent=1)
    kinds = sorted({str(t.dtype).removeprefix("torch.") for t in file.values()})
    print(f"{case:20s} {sum(os.path.getsize(f'{folder}/{f}') for f in os.listdir(folder)) / 1e3:7.0f} kB  {kinds}", flush=True)


if __name__ == "__main__":
    conformance, out, names = sys.argv[1], sys.argv[2], sys.argv[3:]
    for case in names or CASES:
        build(conformance, out, case)
