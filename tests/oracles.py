"""Slow, obvious twins of the fast paths: loops over rows, tokens, towers and experts.

Shapes: B rows, S positions, T tokens of a tower, D width, E head width, F hidden width.
"""

import math

import numpy as np
import torch
from factories import RandomLayout
from torch import Tensor, nn
from torch.nn import functional as F

from mot_lab.backbones.expert_choice import ExpertChoice
from mot_lab.backbones.feed_forward import FeedForward
from mot_lab.backbones.towers import Towers
from mot_lab.backbones.transformer import Block, Transformer
from mot_lab.data.documents import DocumentStream, ImageSegment, TextSegment
from mot_lab.data.packing import Layout

Place = tuple[int, int]


def may_attend(layout: RandomLayout, row: int, query: int, key: int) -> bool:
    """The attention mask of one pair: same document, and either no later key or the same image."""
    if layout.document_BS[row, query] != layout.document_BS[row, key]:
        return False
    image = layout.image_BS[row, query]
    same_image = bool(image >= 0 and image == layout.image_BS[row, key])
    return key <= query or same_image


def rotary(x_E: Tensor, position: int, base: float) -> Tensor:
    """RoPE of one head's vector: the pair (i, i + E/2) turned by position / base^(2i/E)."""
    half = len(x_E) // 2
    turned = [None] * len(x_E)
    for i in range(half):
        angle = position / base ** (2 * i / len(x_E))
        first, second = x_E[i], x_E[i + half]
        turned[i] = first * math.cos(angle) - second * math.sin(angle)
        turned[i + half] = second * math.cos(angle) + first * math.sin(angle)
    return torch.stack(turned)


def norm(module: nn.Module, x: Tensor) -> Tensor:
    """RMS norm or layer norm of one vector, written out."""
    if isinstance(module, nn.LayerNorm):
        centred = x - x.mean()
        return centred / (centred.square().mean() + module.eps).sqrt() * module.weight + module.bias
    assert isinstance(module, nn.RMSNorm)
    return x / (x.square().mean() + module.eps).sqrt() * module.weight


def feed_forward(gate_up_FD: Tensor, down_DF: Tensor, x_D: Tensor) -> Tensor:
    """SwiGLU of one token."""
    gate_up = gate_up_FD @ x_D
    hidden = len(gate_up) // 2
    return down_DF @ (F.silu(gate_up[:hidden]) * gate_up[hidden:])


def expert_choice(module: ExpertChoice, x_TD: Tensor) -> Tensor:
    """Every expert takes its best round(T / experts) tokens, one at a time."""
    tokens, experts = len(x_TD), module.router.out_features
    logits = [[module.router.weight[e] @ x_D for e in range(experts)] for x_D in x_TD]
    outputs = [torch.zeros_like(x_D) for x_D in x_TD]
    for e in range(experts):
        if module.gate == "sigmoid":
            score = [torch.sigmoid(logits[t][e]) for t in range(tokens)]
        else:
            score = [torch.softmax(torch.stack(logits[t]), 0)[e] for t in range(tokens)]
        best = sorted(range(tokens), key=lambda t: -score[t].item())
        quota = math.floor(tokens / experts + 0.5)  # nearest, half up
        for t in best[: max(quota, 1)]:
            y_D = feed_forward(module.gate_up_EDF[e].T, module.down_EFD[e].T, x_TD[t])
            outputs[t] = outputs[t] + score[t] * y_D
    return torch.stack(outputs) if outputs else x_TD


class BackboneOracle:
    """A transformer computed token by token, each token with the weights of its modality."""

    def __init__(self, transformer: Transformer, layout: RandomLayout) -> None:
        self.transformer, self.layout = transformer, layout
        rows, length = layout.modality_BS.shape
        self.places = [
            (row, place)
            for row in range(rows)
            for place in range(length)
            if layout.modality_BS[row, place] >= 0
        ]

    def __call__(self, x_BSD: Tensor) -> Tensor:
        """[B, S, D] -> [B, S, D], zeros at padding."""
        x = {place: x_BSD[place] for place in self.places}
        for block in self.transformer.blocks:
            x = self._block(block, x)
        x = self._norm(self.transformer.final_norm, x)
        zeros = torch.zeros_like(x_BSD[0, 0])
        rows, length = self.layout.modality_BS.shape
        return torch.stack(
            [
                torch.stack([x.get((row, place), zeros) for place in range(length)])
                for row in range(rows)
            ]
        )

    def _modality(self, place: Place) -> str:
        return self.transformer.wiring.modalities[int(self.layout.modality_BS[place])]

    def _norm(self, towers: Towers, x: dict[Place, Tensor]) -> dict[Place, Tensor]:
        return {place: norm(towers.of(self._modality(place)), x[place]) for place in self.places}

    def _block(self, block: Block, x: dict[Place, Tensor]) -> dict[Place, Tensor]:
        for inner, towers in (
            (lambda z: self._attention(block, z), block.attention_norm),
            (lambda z: self._feed_forward(block, z), block.feed_forward_norm),
        ):
            if self.transformer.config.norm == "pre":
                y = inner(self._norm(towers, x))
            else:
                y = self._norm(towers, inner(x))
            x = {place: x[place] + y[place] for place in self.places}
        return x

    def _feed_forward(self, block: Block, x: dict[Place, Tensor]) -> dict[Place, Tensor]:
        y = {}
        for module in block.feed_forward.tower.values():
            own = [p for p in self.places if block.feed_forward.of(self._modality(p)) is module]
            if isinstance(module, ExpertChoice):
                if own:
                    out = expert_choice(module, torch.stack([x[place] for place in own]))
                    y.update(zip(own, out, strict=True))
            else:
                assert isinstance(module, FeedForward)
                for place in own:
                    y[place] = feed_forward(module.gate_up.weight, module.down.weight, x[place])
        return y

    def _attention(self, block: Block, x: dict[Place, Tensor]) -> dict[Place, Tensor]:
        config, attention = self.transformer.config, block.attention
        width = config.width // config.heads
        queries, keys, values = {}, {}, {}
        for place in self.places:
            qkv = attention.qkv.of(self._modality(place)).weight @ x[place]
            q, k, v = qkv.view(3, config.heads, width)
            position = int(self.layout.position_BS[place])
            if attention.qk_norm is not None:
                norms = attention.qk_norm.of(self._modality(place))
                q = torch.stack([norm(norms.query, head) for head in q])
                k = torch.stack([norm(norms.key, head) for head in k])
            queries[place] = [rotary(head, position, config.rope_base) for head in q]
            keys[place] = [rotary(head, position, config.rope_base) for head in k]
            values[place] = v
        y = {}
        for row, query in self.places:
            seen = [
                (row, key)
                for other, key in self.places
                if other == row and may_attend(self.layout, row, query, key)
            ]
            heads = []
            for h in range(config.heads):
                scores = torch.stack([queries[row, query][h] @ keys[key][h] for key in seen])
                weights = torch.softmax(scores / math.sqrt(width), 0)
                heads.append(sum(w * values[key][h] for w, key in zip(weights, seen, strict=True)))
            out = attention.out.of(self._modality((row, query))).weight
            y[row, query] = out @ torch.cat(heads)
        return y


def pack_row(stream: DocumentStream, layout: Layout, seed: tuple[int, ...]) -> dict[str, list]:
    """A packed row, place by place, as lists of Python numbers (latents by image)."""
    rng = np.random.default_rng(seed)
    names = ("token", "modality", "document", "position", "image", "target", "latents")
    row: dict[str, list] = {name: [] for name in names}
    document = 0
    while layout.length - len(row["token"]) >= 4:
        room = layout.length - len(row["token"])
        segments, cut = list(stream.draw(rng).segments), False
        if _size(segments, layout) > room:
            segments = list(stream.passage(rng).segments)
            if _size(segments, layout) > room:
                segments, cut = [TextSegment(segments[0].ids[: room - 1])], True
        places: list[tuple[int, int, int, bool]] = [(layout.bos, 0, -1, True)]
        for segment in segments:
            if isinstance(segment, ImageSegment):
                image = len(row["latents"])
                row["latents"].append(segment.latents_CHW)
                places.append((layout.boi, 0, -1, False))  # nothing is predicted from <boi>
                places += [(0, 1, image, False)] * layout.patches
                places.append((layout.eoi, 0, -1, True))
            else:
                places += [(int(token), 0, -1, True) for token in segment.ids]
        if not cut:
            places.append((layout.eos, 0, -1, True))
        for position, (token, modality, image, predicts) in enumerate(places):
            last = position == len(places) - 1
            row["token"].append(token)
            row["modality"].append(modality)
            row["document"].append(document)
            row["position"].append(position)
            row["image"].append(image)
            row["target"].append(places[position + 1][0] if predicts and not last else -100)
        document += 1
    while len(row["token"]) < layout.length:
        for name, value in zip(names, (0, -1, -1, 0, -1, -100), strict=False):
            row[name].append(value)
    return row


def _size(segments: list, layout: Layout) -> int:
    inside = [
        layout.patches + 2 if isinstance(each, ImageSegment) else len(each.ids) for each in segments
    ]
    return 2 + sum(inside)
