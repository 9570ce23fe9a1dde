"""Slow, obvious twins of the fast paths: loops over rows, tokens, towers and experts.

Shapes: B rows, S positions, T tokens of a tower, D width, E head width, F hidden width.
"""

import math
from collections.abc import Sequence
from itertools import product

import numpy as np
import torch
from factories import RandomLayout
from torch import Tensor, nn
from torch.nn import functional as F

from mot_lab.backbones.document_rows import MULTIPLE, PAIRS_PER_PLACE, PAIRS_PER_TABLE
from mot_lab.backbones.expert_choice import ExpertChoice
from mot_lab.backbones.feed_forward import FeedForward
from mot_lab.backbones.towers import Towers
from mot_lab.backbones.transformer import Block, Transformer
from mot_lab.data.documents import CodeSegment, DocumentStream, ImageSegment, TextSegment
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


def causal_routing(module: ExpertChoice, x_TD: Tensor) -> Tensor:
    """Each token by itself goes to the experts that its auxiliary scores name."""
    assert module.auxiliary is not None
    into_DH, out_HE = module.auxiliary.into_DH, module.auxiliary.out_HE
    outputs = []
    for x_D in x_TD:
        y_D = torch.zeros_like(x_D)
        before_H = x_D @ into_DH.to(x_D.dtype)
        hidden_H = before_H * torch.sigmoid(before_H)
        logits_E = module.router.weight @ x_D
        for e in range(module.router.out_features):
            if 1 / (1 + torch.exp(-hidden_H @ out_HE[:, e].to(x_D.dtype))) > 0.5:
                one_of = torch.sigmoid(logits_E[e])
                gate = one_of if module.gate == "sigmoid" else torch.softmax(logits_E, 0)[e]
                y_D = y_D + gate * feed_forward(module.gate_up_EDF[e].T, module.down_EFD[e].T, x_D)
        outputs.append(y_D)
    return torch.stack(outputs) if outputs else x_TD


def cheapest_tables(lengths: Sequence[int]) -> tuple[float, list[int]]:
    """Of all ways to cut sorted lengths of documents into tables the cheapest: its cost in
    query-key pairs, and every document's columns, shortest document first.
    """
    ordered = sorted(-(-length // MULTIPLE) * MULTIPLE for length in lengths)
    ways = []
    for cuts in product([False, True], repeat=len(ordered) - 1):
        tables = [[ordered[0]]]
        for length, cut in zip(ordered[1:], cuts, strict=True):
            if cut:
                tables.append([])
            tables[-1].append(length)
        cost = 0
        for table in tables:
            cost += PAIRS_PER_TABLE
            cost += len(table) * (table[-1] ** 2 + PAIRS_PER_PLACE * table[-1])
        ways.append((cost, [table[-1] for table in tables for _ in table]))
    return min(ways)


class BackboneOracle:
    """A transformer computed token by token, each token with the weights of its modality; experts
    as the transformer routes them at the moment.
    """

    def __init__(self, transformer: Transformer, layout: RandomLayout) -> None:
        self.transformer, self.layout = transformer, layout
        rows, length = layout.modality_BS.shape
        self.places = [
            (row, place)
            for row in range(rows)
            for place in range(length)
            if layout.modality_BS[row, place] >= 0
        ]

    def stream(self, x_BSD: Tensor) -> list[dict[Place, Tensor]]:
        """The residual stream [D] of every token: before the first block, after each block, and
        after the final norm.
        """
        x = [{place: x_BSD[place] for place in self.places}]
        for block in self.transformer.blocks:
            x.append(self._block(block, x[-1]))
        return [*x, self._norm(self.transformer.final_norm, x[-1])]

    def __call__(self, x_BSD: Tensor) -> Tensor:
        """[B, S, D] -> [B, S, D], zeros at padding."""
        x = self.stream(x_BSD)[-1]
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
                    compute = causal_routing if module.causal else expert_choice
                    out = compute(module, torch.stack([x[place] for place in own]))
                    y.update(zip(own, out, strict=True))
            else:
                assert isinstance(module, FeedForward)
                for place in own:
                    y[place] = feed_forward(module.gate_up.weight, module.down.weight, x[place])
        return y

    def _attention(self, block: Block, x: dict[Place, Tensor]) -> dict[Place, Tensor]:
        config, attention = self.transformer.config, block.attention
        heads, kv_heads, width = config.head_shape
        queries, keys, values = {}, {}, {}
        for place in self.places:
            projection = attention.qkv.of(self._modality(place))
            qkv = projection.weight @ x[place]
            if projection.bias is not None:
                qkv = qkv + projection.bias
            q, k, v = qkv.view(-1, width).split([heads, kv_heads, kv_heads])
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
            found = []
            for h in range(heads):
                shared = h * kv_heads // heads
                scores = torch.stack([queries[row, query][h] @ keys[key][shared] for key in seen])
                weights = torch.softmax(scores / math.sqrt(width), 0)
                seen_values = [values[key][shared] for key in seen]
                found.append(sum(w * v for w, v in zip(weights, seen_values, strict=True)))
            out = attention.out.of(self._modality((row, query))).weight
            y[row, query] = out @ torch.cat(found)
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
                block = layout.blocks[layout.diffused]
                image = len(row["latents"])
                row["latents"].append(segment.latents_CHW)
                places.append((block.begin, 0, -1, False))  # nothing is predicted from <begin>
                places += [(0, block.modality_id, image, False)] * block.length
                places.append((block.end, 0, -1, True))
            elif isinstance(segment, CodeSegment):
                block = layout.blocks[segment.modality]
                places.append((block.begin, 0, -1, True))
                codes = [block.first_code + int(code) for code in segment.codes]
                places += [(code, block.modality_id, -1, True) for code in codes]
                if block.length is not None:  # where it ends is known
                    places[-1] = (codes[-1], block.modality_id, -1, False)
                places.append((block.end, 0, -1, True))
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
    size = 2
    for each in segments:
        if isinstance(each, TextSegment):
            size += len(each.ids)
        elif isinstance(each, CodeSegment):
            size += 2 + len(each.codes)
        else:
            size += 2 + layout.blocks[layout.diffused].length
    return size


def squared_mean_discrepancy(one_NF: np.ndarray, other_MF: np.ndarray) -> float:
    """MMD^2 with KID's kernel, unbiased, pair by pair."""

    def kernel(x_F: np.ndarray, y_F: np.ndarray) -> float:
        return (sum(a * b for a, b in zip(x_F, y_F, strict=True)) / len(x_F) + 1) ** 3

    def within(set_NF: np.ndarray) -> float:
        pairs = [(i, j) for i in range(len(set_NF)) for j in range(len(set_NF)) if i != j]
        return sum(kernel(set_NF[i], set_NF[j]) for i, j in pairs) / len(pairs)

    across = [kernel(x_F, y_F) for x_F in one_NF for y_F in other_MF]
    return float(within(one_NF) + within(other_MF) - 2 * sum(across) / len(across))


def resampled_ratios(
    above: list[float], below: list[float], draws: int, seed: int
) -> tuple[list[float], int]:
    """Bootstrap draws of sum(above) / sum(below), item by item, and how many had to be redrawn."""
    rng = np.random.default_rng(seed)

    def resample() -> tuple[float, float]:
        chosen = [int(rng.integers(len(above))) for _ in above]
        return sum(above[i] for i in chosen), sum(below[i] for i in chosen)

    sums = [resample() for _ in range(draws)]
    again = 0
    while any(total == 0 for _, total in sums):
        for place, (_, total) in enumerate(sums):
            if total == 0:
                sums[place] = resample()
                again += 1
    return [numerator / total for numerator, total in sums], again


def first_reached(
    steps_B: np.ndarray, levels_B: np.ndarray, steps_A: np.ndarray, levels_A: np.ndarray
) -> list[float]:
    """Walks along the arm's line until it is at or below each level; no flat stretch is shared."""
    found = []
    for level in levels_B:
        step = math.nan
        for place, (at, value) in enumerate(zip(steps_A, levels_A, strict=True)):
            if value <= level:
                step = at if place or value == level else math.nan
                if place and value < levels_A[place - 1]:
                    before, above = steps_A[place - 1], levels_A[place - 1]
                    step = before + (above - level) / (above - value) * (at - before)
                break
        found.append(float(step))
    return found


def slope_covered(
    steps_B: np.ndarray,
    levels_B: np.ndarray,
    steps_A: np.ndarray,
    levels_A: np.ndarray,
    warmup: float,
) -> float:
    """The slope through the origin over the levels that the arm's run is long enough for."""

    def slope(steps: np.ndarray, needed: list[float], longest: float) -> float:
        pairs = [
            (n, m)
            for n, m in zip(steps, needed, strict=True)
            if warmup < n <= longest and not math.isnan(m)
        ]
        return sum(n * m for n, m in pairs) / sum(n * n for n, _ in pairs)

    backward = slope(steps_A, first_reached(steps_A, levels_A, steps_B, levels_B), math.inf)
    longest = backward * steps_A[-1] * (1 + 1e-9)
    return slope(steps_B, first_reached(steps_B, levels_B, steps_A, levels_A), longest)


def moving_average(steps: np.ndarray, values: np.ndarray, share: float) -> list[float]:
    """The mean over the steps within half a window on either side, no wider than to an end."""
    averages = []
    for step in steps:
        half = min(share * steps[-1] / 2, step - steps[0], steps[-1] - step)
        near = [v for s, v in zip(steps, values, strict=True) if abs(s - step) <= half]
        averages.append(sum(near) / len(near))
    return averages


def exponential_average(steps: np.ndarray, values: np.ndarray, share: float) -> list[float]:
    """Every value so far weighed by how long ago it was, in full at every step."""
    averages = []
    for place in range(len(steps)):
        ages = steps[place] - steps[: place + 1]
        weights = [math.exp(-age / (share * steps[-1])) for age in ages]
        averages.append(sum(w * v for w, v in zip(weights, values, strict=False)) / sum(weights))
    return averages


def principal_axes(states_ND: np.ndarray, components: int) -> tuple[np.ndarray, list[float]]:
    """Axes [C, D] and shares of the variance by power iteration on the covariance, one axis at a
    time; the entry of greatest magnitude of an axis is positive.
    """
    centred_ND = states_ND - states_ND.mean(axis=0)
    covariance_DD = centred_ND.T @ centred_ND
    total = np.trace(covariance_DD)
    axes, shares = [], []
    for _ in range(components):
        axis = np.random.default_rng(0).standard_normal(len(covariance_DD))
        for _ in range(5000):
            axis = covariance_DD @ axis
            axis = axis / math.sqrt(sum(each**2 for each in axis))
        variance = axis @ covariance_DD @ axis
        covariance_DD = covariance_DD - variance * np.outer(axis, axis)
        axes.append(axis if max(axis) > -min(axis) else -axis)
        shares.append(variance / total)
    return np.array(axes), shares


def silhouette(states: list[np.ndarray], modality: list[int]) -> list[float]:
    """Of every token, distance by distance."""
    values = []
    for i, state in enumerate(states):
        apart: dict[int, list[float]] = {}
        for j, other in enumerate(states):
            if i != j:
                distance = math.sqrt(sum((state - other) ** 2))
                apart.setdefault(modality[j], []).append(distance)
        means = {name: sum(each) / len(each) for name, each in apart.items()}
        own = means.pop(modality[i])
        nearest = min(means.values())
        values.append((nearest - own) / max(own, nearest))
    return values


def variance_share(states: list[np.ndarray], modality: list[int]) -> float:
    """Between-modality over total sum of squares, token by token."""
    mean = sum(states) / len(states)
    between = total = 0.0
    for state, own in zip(states, modality, strict=True):
        others = [x for x, m in zip(states, modality, strict=True) if m == own]
        between += sum((sum(others) / len(others) - mean) ** 2)
        total += sum((state - mean) ** 2)
    return between / total


def probe_predictions(
    seen_ND: np.ndarray, modality_N: np.ndarray, unseen_MD: np.ndarray
) -> list[int]:
    """Softmax regression on standardised features, L2 penalty 1/2 |W|^2, by gradient descent."""
    mean, spread = seen_ND.mean(axis=0), seen_ND.std(axis=0)
    x_ND = torch.from_numpy((seen_ND - mean) / spread)
    classes = int(modality_N.max()) + 1
    weight_DG = torch.zeros(x_ND.shape[1], classes, dtype=torch.float64, requires_grad=True)
    bias_G = torch.zeros(classes, dtype=torch.float64, requires_grad=True)
    for _ in range(800):
        logits_NG = x_ND @ weight_DG + bias_G
        right_N = torch.log_softmax(logits_NG, 1)[range(len(x_ND)), modality_N]
        loss = -right_N.sum() + 0.5 * weight_DG.square().sum()
        gradients = torch.autograd.grad(loss, [weight_DG, bias_G])
        with torch.no_grad():
            for parameter, gradient in zip([weight_DG, bias_G], gradients, strict=True):
                parameter -= gradient / len(x_ND)
    with torch.no_grad():
        logits_MG = torch.from_numpy((unseen_MD - mean) / spread) @ weight_DG + bias_G
    return logits_MG.argmax(1).tolist()


def mean_recall(right: list[bool], modality: list[int]) -> float:
    """0 at guessing and 1 at always right."""
    recalls = []
    for own in sorted(set(modality)):
        answers = [r for r, m in zip(right, modality, strict=True) if m == own]
        recalls.append(sum(answers) / len(answers))
    chance = 1 / len(recalls)
    return (sum(recalls) / len(recalls) - chance) / (1 - chance)


def nearest_codes(latents_NDhw: Tensor, codebook_KD: Tensor) -> list[list[int]]:
    """Codes of every picture, cell by cell from the upper left, each the nearest of all."""
    pictures = []
    for latents_Dhw in latents_NDhw:
        codes = []
        for row in range(latents_Dhw.shape[1]):
            for column in range(latents_Dhw.shape[2]):
                distances = [
                    float((latents_Dhw[:, row, column] - code_D).square().sum())
                    for code_D in codebook_KD
                ]
                codes.append(distances.index(min(distances)))
        pictures.append(codes)
    return pictures


def codebook_averages(
    first_KD: np.ndarray, batches: list[np.ndarray], decay: float
) -> list[np.ndarray]:
    """A codebook after batches [M, D] of latents, by appendix A.1 of van den Oord et al. (2017):
    each code had an even share of a batch's latents at first, all equal to it."""
    share = len(batches[0]) / len(first_KD)
    counts = [share] * len(first_KD)
    sums = [share * code_D for code_D in first_KD]
    codes = list(first_KD)
    for batch_MD in batches:
        chosen: list[list[np.ndarray]] = [[] for _ in codes]
        for latent_D in batch_MD:
            distances = [float(((latent_D - code_D) ** 2).sum()) for code_D in codes]
            chosen[distances.index(min(distances))].append(latent_D)
        for place, latents in enumerate(chosen):
            counts[place] = decay * counts[place] + (1 - decay) * len(latents)
            sums[place] = decay * sums[place] + (1 - decay) * sum(latents, np.zeros_like(codes[0]))
            codes[place] = sums[place] / counts[place]
    return codes
