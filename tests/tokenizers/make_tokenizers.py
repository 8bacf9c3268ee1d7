"""Train a tiny tokenizer of each kind in use and write what it gives: NAME/{tokenizer.json, tokenizer_config.json, expected.json}.

usage: make_tokenizers.py            (needs tokenizers and transformers; no torch)

expected.json has, for each text, the ids of `encode` with and without what the tokenizer adds, and what transformers decodes them to;
and for lists of random ids what they decode to.
"""
import json, os, random
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

HERE = os.path.dirname(os.path.abspath(__file__))
TEXT = """The mill stands by the river, and the river turns the wheel. It doesn't stop at night: water doesn't sleep.
"Who owns the grain?" asked the miller. "I do," said the farmer, "and they've weighed it; we're done, I'm sure."
Eine Mühle mahlt Getreide, Körner und Öl. Où est le moulin ? Там, за рекой, стоит мельница. 風車は川のそばにある。水车在河边。
fn main() { let mut wheel = Wheel::new(3, "oak"); while wheel.turns() < 10_000 { wheel.turn(); } println!("{:?}", wheel); }
{"name": "weigh", "arguments": {"grain": "rye", "kilograms": 12.5, "dry": true, "notes": null}}
system user assistant tool developer think response document function parameters string object required properties
0 1 2 3 4 5 6 7 8 9 10 11 12 100 1000 <tag> [list] (paren) |pipe| #hash @at &amp; a_b x-y ~ ^ % $ € 🦀 🌾
""" * 4
TEXTS = ["", " ", "a", "The mill stands by the river.", " leading", "trailing ", "two  spaces   three", "line\nbreak\n\n\tand\ttabs\r\n",
         "Mühle, Où ? Там. 風車は川 水车", "🦀🌾 crab", "e\u0301 combining", "\u200bzero\u200dwidth", "nul \x00 and bell \x07", "\ufeffmark",
         "doesn't stop , they've , I'm , we're ' here ' . ok ! no ?", "<tag> [list] |pipe|", "x" * 120, "unknown: ꙮ ☃ \U0001f9ff",
         "12345 67.89", "MiXeD CaSe", "<|im_start|>user\nhi<|im_end|>", "<s>[INST] a [/INST]</s>", "[CLS] a [SEP] [MASK]", "<unk> and <pad>",
         "<|end|>   spaces behind", "<think>a</think>b", "word<hold>word <hold> x"]
# The special tokens of the chat templates beside this folder, and others that are not special.
CHAT = ["<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>", "<|eom_id|>", "<|python_tag|>",
        "<|im_start|>", "<|im_end|>", "<|system|>", "<|user|>", "<|assistant|>", "<|tool|>", "<|/tool|>", "<|start|>", "<|end|>",
        "<|message|>", "<|channel|>", "<|call|>", "<|return|>", "<｜User｜>", "<｜Assistant｜>", "<｜tool▁calls▁begin｜>",
        "<｜tool▁calls▁end｜>", "<｜tool▁call▁begin｜>", "<｜tool▁call▁end｜>", "<｜tool▁sep｜>", "<｜tool▁output▁begin｜>",
        "<｜tool▁output▁end｜>", "<|START_OF_TURN_TOKEN|>", "<|END_OF_TURN_TOKEN|>", "<|SYSTEM_TOKEN|>", "<|USER_TOKEN|>",
        "<|CHATBOT_TOKEN|>", "<|start_of_role|>", "<|end_of_role|>", "<|tool_call|>"]
PLAIN = ["<think>", "</think>", "<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>", "<response>", "</response>"]


def trainer(kind, size, special, **kw):
    return kind(vocab_size=size, special_tokens=special, show_progress=False, **kw)


def byte_level():
    t = Tokenizer(models.BPE())
    split = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    t.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(split), "isolated"),
                                               pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    t.decoder = decoders.ByteLevel()
    t.train_from_iterator([TEXT], trainer(trainers.BpeTrainer, 420, [], initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    t.add_special_tokens([AddedToken(c, special=True, normalized=False, rstrip=c == "<|end|>") for c in CHAT])
    t.add_tokens([AddedToken(c, normalized=False) for c in PLAIN] + [AddedToken("<hold>", single_word=True, normalized=False)])
    bos = t.token_to_id("<|begin_of_text|>")
    t.post_processor = processors.Sequence([processors.ByteLevel(trim_offsets=False), processors.TemplateProcessing(
        single="<|begin_of_text|> $A", pair="$A $B", special_tokens=[("<|begin_of_text|>", bos)])])
    return t, {"bos_token": "<|begin_of_text|>", "eos_token": "<|end_of_text|>"}


SENTENCE = ["<unk>", "<s>", "</s>", "[INST]", "[/INST]", "[AVAILABLE_TOOLS]", "[/AVAILABLE_TOOLS]", "[TOOL_CALLS]", "[TOOL_RESULTS]",
            "[/TOOL_RESULTS]", "<bos>", "<eos>", "<start_of_turn>", "<end_of_turn>", "<start_of_image>"]
BYTES = [f"<0x{b:02X}>" for b in range(256)]


def sentencepiece(prepend):
    """As the converted tokenizers of Llama 2, Mistral (with a space before the text) and Gemma (without)."""
    t = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    t.normalizer = normalizers.Sequence(([normalizers.Prepend("▁")] if prepend else []) + [normalizers.Replace(" ", "▁")])
    chain = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    t.decoder = decoders.Sequence(chain + ([decoders.Strip(" ", 1, 0)] if prepend else []))
    t.train_from_iterator([TEXT.replace("風", "").replace("🌾", "").replace("🦀", "").replace("ü", "")],
                          trainer(trainers.BpeTrainer, 640, SENTENCE + BYTES, max_token_length=8))
    # Bytes are ordinary tokens, which spelled out are text.
    data = json.loads(t.to_str())
    data["added_tokens"] = [a for a in data["added_tokens"] if a["content"] in SENTENCE]
    t = Tokenizer.from_str(json.dumps(data))
    t.add_tokens([AddedToken("<hold>", single_word=True, normalized=True)])
    bos = "<s>" if prepend else "<bos>"
    t.post_processor = processors.TemplateProcessing(single=f"{bos} $A", pair=f"{bos} $A {bos} $B",
                                                     special_tokens=[(bos, t.token_to_id(bos))])
    return t, {"bos_token": bos, "eos_token": "</s>" if prepend else "<eos>", "unk_token": "<unk>"}


def metaspace():
    """A byte-pair encoder with Metaspace on both sides, the space put before the first word only."""
    t = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True))
    t.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="first", split=False)
    t.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Metaspace(replacement="▁", prepend_scheme="first")])
    t.train_from_iterator([TEXT], trainer(trainers.BpeTrainer, 600, SENTENCE + BYTES, max_token_length=8))
    data = json.loads(t.to_str())
    data["added_tokens"] = [a for a in data["added_tokens"] if a["content"] in SENTENCE]
    t = Tokenizer.from_str(json.dumps(data))
    t.post_processor = processors.TemplateProcessing(single="<s> $A", pair="$A $B", special_tokens=[("<s>", t.token_to_id("<s>"))])
    return t, {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}


def unigram():
    t = Tokenizer(models.Unigram())
    t.normalizer = normalizers.Sequence([normalizers.Nmt(), normalizers.NFKC(), normalizers.Replace(Regex(" {2,}"), " ")])
    t.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always")
    t.decoder = decoders.Metaspace(replacement="▁", prepend_scheme="always")
    special = ["<pad>", "</s>", "<unk>", "<|start_of_role|>", "<|end_of_role|>", "<|end_of_text|>", "<|tool_call|>"]
    t.train_from_iterator([TEXT], trainer(trainers.UnigramTrainer, 400, special, unk_token="<unk>"))
    t.post_processor = processors.TemplateProcessing(single="$A </s>", pair="$A </s> $B </s>",
                                                     special_tokens=[("</s>", t.token_to_id("</s>"))])
    return t, {"eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}


def word_piece():
    t = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    t.normalizer = normalizers.BertNormalizer(lowercase=True)
    t.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    t.decoder = decoders.WordPiece(prefix="##", cleanup=False)
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    t.train_from_iterator([TEXT], trainer(trainers.WordPieceTrainer, 500, special))
    # A hole: an id that stands for nothing.
    data = json.loads(t.to_str())
    vocab = data["model"]["vocab"]
    del vocab[next(token for token, id in vocab.items() if id == len(vocab) - 20)]
    t = Tokenizer.from_str(json.dumps(data))
    t.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B [SEP]", special_tokens=[
        ("[CLS]", t.token_to_id("[CLS]")), ("[SEP]", t.token_to_id("[SEP]"))])
    return t, {"cls_token": "[CLS]", "sep_token": "[SEP]", "unk_token": "[UNK]", "pad_token": "[PAD]", "mask_token": "[MASK]",
               "clean_up_tokenization_spaces": True}


KINDS = {"byte_level": byte_level, "sentencepiece": lambda: sentencepiece(True), "sentencepiece_plain": lambda: sentencepiece(False),
         "metaspace": metaspace, "unigram": unigram, "word_piece": word_piece}


def main():
    for name, make in KINDS.items():
        folder = os.path.join(HERE, name)
        os.makedirs(folder, exist_ok=True)
        tokenizer, config = make()
        tokenizer.save(os.path.join(folder, "tokenizer.json"), pretty=False)
        config = {"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False, **config}
        with open(os.path.join(folder, "tokenizer_config.json"), "w", encoding="utf-8") as out:
            json.dump(config, out, indent=1, ensure_ascii=False)
        whole = PreTrainedTokenizerFast.from_pretrained(folder)
        decode = lambda ids: whole.decode(ids, skip_special_tokens=True)
        texts = [{"text": text, "ids": (ids := tokenizer.encode(text).ids), "bare": tokenizer.encode(text, add_special_tokens=False).ids,
                  "decoded": decode(ids)} for text in TEXTS]
        draw = random.Random(7)
        size = max(tokenizer.get_vocab().values()) + 1
        lists = [[draw.randrange(size) for _ in range(draw.randrange(1, 24))] for _ in range(150)]
        lists = [[id for id in ids if tokenizer.id_to_token(id) is not None] for ids in lists]
        with open(os.path.join(folder, "expected.json"), "w", encoding="utf-8") as out:
            json.dump({"texts": texts, "ids": [{"ids": ids, "decoded": decode(ids)} for ids in lists]}, out, ensure_ascii=False, indent=0)
            out.write("\n")
        print(name, size)


main()
