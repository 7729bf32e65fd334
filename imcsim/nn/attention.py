"""Attention on crossbars: projections on arrays, the products of queries, keys and values digital."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from imcsim.errors import InputError
from imcsim.nn.projection import CrossbarMatrices

_PARTS = ("query_proj", "key_proj", "value_proj")


class CrossbarMultiheadAttention(CrossbarMatrices, nn.MultiheadAttention):
    """`nn.MultiheadAttention` on crossbars.

    ``softmax(Q K^T / sqrt(d) + masks) V`` of ``Q = W_q query + b_q`` and so on, heads side by side, then
    ``W_o``. Each projection quantizes its input by its own range, also where query, key and value are one
    tensor.

    Notes:
        Torch's fused path, which reads the weights, is never taken. `is_causal` is a hint that `attn_mask` is
        the causal mask; the mask is what counts.

    References: A. Vaswani et al., "Attention is all you need", NeurIPS 2017, Eq. 1.
    """

    @staticmethod
    def matrix_keys(module: nn.Module) -> tuple[str, ...]:
        """query_proj, key_proj, value_proj and out_proj."""
        return (*_PARTS, "out_proj")

    def matrix(self, key: str) -> tuple[Tensor, Tensor | None]:
        """A projection's weight and bias, where packed their rows of the packed ones."""
        if key == "out_proj":
            return self.out_proj.weight, self.out_proj.bias
        first = _PARTS.index(key) * self.embed_dim
        rows = slice(first, first + self.embed_dim)
        packed: Tensor | None = self.in_proj_weight
        weight: Tensor = getattr(self, f"{key[0]}_proj_weight") if packed is None else packed[rows]
        return weight, None if self.in_proj_bias is None else self.in_proj_bias[rows]

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """The layer on its chip, with torch's arguments and results."""
        self._check_inputs(query, key, value)
        if is_causal and attn_mask is None:
            raise InputError(
                f"layer {self.module_name!r}: is_causal = True needs attn_mask, the causal mask; "
                "nn.Transformer.generate_square_subsequent_mask makes it"
            )
        batched = query.dim() == 3
        q = self._heads(self.project("query_proj", self._batch_first(query)))
        k = self.project("key_proj", self._batch_first(key))
        keys = k.shape[1]
        v = self.project("value_proj", self._batch_first(value))
        if self.bias_k is not None and self.bias_v is not None:
            k = torch.cat([k, self.bias_k.to(k.dtype).expand(len(k), 1, -1)], 1)
            v = torch.cat([v, self.bias_v.to(v.dtype).expand(len(v), 1, -1)], 1)
        k, v = self._heads(k), self._heads(v)
        if self.add_zero_attn:
            k, v = F.pad(k, (0, 0, 0, 1)), F.pad(v, (0, 0, 0, 1))
        mask = self._mask(attn_mask, key_padding_mask, q, keys, k.shape[2])
        dropout = self.dropout if self.training else 0.0
        weights: Tensor | None = None
        if need_weights:
            scores = (q * math.sqrt(1.0 / self.head_dim)) @ k.transpose(-2, -1)
            weights = torch.softmax(scores if mask is None else scores + mask, -1)
            weights = F.dropout(weights, dropout) if dropout else weights
            mixed = weights @ v
            weights = weights.mean(1) if average_attn_weights else weights
            weights = weights if batched else weights.squeeze(0)
        else:
            mixed = F.scaled_dot_product_attention(q, k, v, mask, dropout)
        out = self.project("out_proj", mixed.transpose(1, 2).flatten(2))
        if not batched:
            return out.squeeze(0), weights
        return out if self.batch_first else out.transpose(0, 1), weights

    def _batch_first(self, x: Tensor) -> Tensor:
        """Any input as (batch, positions, features)."""
        if x.dim() == 2:
            return x.unsqueeze(0)
        return x if self.batch_first else x.transpose(0, 1)

    def _heads(self, x: Tensor) -> Tensor:
        """Shapes: (batch, positions, features) -> (batch, heads, positions, features / heads)."""
        return x.unflatten(-1, (self.num_heads, self.head_dim)).transpose(1, 2)

    def _mask(
        self, attn_mask: Tensor | None, padding: Tensor | None, q: Tensor, keys: int, with_extra: int
    ) -> Tensor | None:
        """Both masks as numbers to add to the scores.

        Shapes: attn_mask (queries, keys) or (batch x heads, queries, keys); padding (batch, keys), without a
        batch (keys,); q (batch, heads, queries, features); returns what broadcasts to (batch, heads, queries,
        with_extra), whose last keys no mask knows.
        """
        batch, heads, queries, _ = q.shape
        total: Tensor | None = None
        allowed = {
            "attn_mask": ((queries, keys), (batch * heads, queries, keys)),
            "key_padding_mask": ((batch, keys), (keys,)),
        }
        for name, mask in (("attn_mask", attn_mask), ("key_padding_mask", padding)):
            if mask is None:
                continue
            if tuple(mask.shape) not in allowed[name]:
                raise InputError(
                    f"layer {self.module_name!r} takes {name} of {' or '.join(map(str, allowed[name]))}, "
                    f"but got {tuple(mask.shape)}"
                )
            numbers = self._as_numbers(mask, name, q.dtype)
            if name == "key_padding_mask":
                numbers = numbers.view(batch, 1, 1, keys)
            else:
                numbers = numbers.view(-1, 1 if mask.dim() == 2 else heads, queries, keys)
            total = numbers if total is None else total + numbers
        return None if total is None else F.pad(total, (0, with_extra - keys))

    def _as_numbers(self, mask: Tensor, name: str, dtype: torch.dtype) -> Tensor:
        if mask.dtype == torch.bool:
            return torch.zeros(mask.shape, dtype=dtype, device=mask.device).masked_fill_(mask, -math.inf)
        if mask.is_floating_point():
            return mask.to(dtype)
        raise InputError(
            f"layer {self.module_name!r} takes a boolean or floating-point {name}, but got {mask.dtype}"
        )

    def _check_inputs(self, *inputs: Any) -> None:
        form = "(batch, positions, features)" if self.batch_first else "(positions, batch, features)"
        names, widths = ("query", "key", "value"), (self.embed_dim, self.kdim, self.vdim)
        for name, x, width in zip(names, inputs, widths, strict=True):
            if not isinstance(x, Tensor) or not x.is_floating_point() or x.is_nested:
                nested = isinstance(x, Tensor) and x.is_nested
                kind = "a nested one" if nested else getattr(x, "dtype", type(x).__name__)
                raise InputError(
                    f"layer {self.module_name!r} takes a floating-point tensor as {name}, but got {kind}; "
                    "pad sequences and give key_padding_mask, and convert with .float()"
                )
            if x.dim() not in (2, 3) or x.dim() != inputs[0].dim() or x.shape[-1] != width:
                raise InputError(
                    f"layer {self.module_name!r} takes a {name} of {form}, or one sample's (positions, "
                    f"features), with {width} features, but got {tuple(x.shape)}; check the layer before it"
                )
        query, key, value = inputs
        side = 0 if self.batch_first else 1
        alone = query.dim() == 2
        if key.shape[:-1] != value.shape[:-1] or not (alone or key.shape[side] == query.shape[side]):
            raise InputError(
                f"layer {self.module_name!r} takes key and value of equal length and one batch for all, but "
                f"got {', '.join(str(tuple(x.shape)) for x in inputs)}"
            )
