"""Gradients of the loss on labels that a model draws, each label's computed by itself."""

import numpy as np
import torch
from torch.nn.functional import cross_entropy


def windows_of(setup):
    """Yield the ids of each window and its first token of the trace."""
    token = 0
    for start, length in setup.text.segments:
        for first in range(0, length, 16):
            ids = setup.text.ids[start + first : start + min(length, first + 16)]
            yield torch.tensor(ids[None].astype(np.int64)), token
            token += ids.size


def label_gradients(model, modules, ids, token, seed=0):
    """Return the gradient of the summed loss at the modules' outputs, each label's computed by itself."""
    outputs = {}
    handles = [
        module.register_forward_hook(lambda module, inputs, output, name=name: outputs.__setitem__(name, output))
        for name, module in modules.items()
    ]
    logits = model(ids).logits[0]
    for handle in handles:
        handle.remove()
    cumulated = torch.softmax(logits.detach(), -1).cumsum(-1).numpy()
    draws = np.random.default_rng([seed, token]).random(len(logits))
    total = dict.fromkeys(outputs, 0)
    for position, draw in enumerate(draws):
        label = torch.tensor([np.searchsorted(cumulated[position], draw * cumulated[position, -1], side="right")])
        loss = cross_entropy(logits[position : position + 1], label)
        gradients = torch.autograd.grad(loss, list(outputs.values()), retain_graph=True)
        total = {name: total[name] + g for name, g in zip(outputs, gradients, strict=True)}
    return {name: g.reshape(-1, g.shape[-1]) for name, g in total.items()}
