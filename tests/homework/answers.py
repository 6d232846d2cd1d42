"""Answers to the homework: right ones in other words, and known-wrong ones with the points that they earn.

An answer is the source of the cells that a student changed, by ``grade_id``; cells that are not named hold the solution.
"""

POINTS = {"test-mixup-data": 4, "test-mixup-criterion": 2, "test-label-smoothing": 4, "test-training-loop": 6}

LOOP = """
def train_epoch(model, loader, optimizer, step_loss):
    model.train()
    total, count = 0.0, 0
    for x, y in loader:
        loss = step_loss(model, x, y)
        {reset}
        loss.backward()
        optimizer.step()
        total += loss.item() * {weight}
        count += len(y)
    return total / count


@torch.no_grad()
def evaluate(model, loader):
    {mode}
    logits, targets = [], []
    for x, y in loader:
        logits.append(model(x))
        targets.append(y)
    logits, targets = torch.cat(logits), torch.cat(targets)
    accuracy = (logits.argmax(1) == targets).float().mean().item()
    return F.cross_entropy(logits, targets).item(), accuracy
"""


def loop(*, reset="optimizer.zero_grad()", weight="len(y)", mode="model.eval()"):
    """The training loop, right but for what is given; `pass` leaves a line out."""
    return {"training-loop": LOOP.format(reset=reset, weight=weight, mode=mode).strip()}


def mixup_data(*lines):
    return {"mixup-data": _function("def mixup_data(x, y, alpha, rng):", lines)}


def mixup_criterion(*lines):
    return {"mixup-criterion": _function("def mixup_criterion(criterion, logits, y_a, y_b, lam):", lines)}


def label_smoothing(*lines):
    head = "class LabelSmoothingCrossEntropy(nn.Module):\n    def __init__(self, alpha):\n"
    head += "        super().__init__()\n        self.alpha = alpha\n\n    def forward(self, logits, y):"
    return {"label-smoothing": _function(head, lines, indent=8)}


def _function(head, lines, indent=4):
    return "\n".join([head, *(" " * indent + line for line in lines)])


STUB = 'raise NotImplementedError("your code")'
DRAW = "lam, index = draw(alpha, len(x), rng)"
SOFT = "k = logits.shape[1]; one_hot = F.one_hot(y, k).float(); log_p = F.log_softmax(logits, 1)"
OTHERS = "q = (1 - self.alpha) * one_hot + self.alpha / (k - 1) * (1 - one_hot)"

RIGHT = {
    "in other words": {
        **mixup_data(
            DRAW,
            "pairs = zip(x, x[index])",
            "return torch.stack([lam * a + (1 - lam) * b for a, b in pairs]), y, y.index_select(0, index), lam",
        ),
        **mixup_criterion("return criterion(logits, y_b) + lam * (criterion(logits, y_a) - criterion(logits, y_b))"),
        **label_smoothing(SOFT, OTHERS, "return F.cross_entropy(logits, q)"),
        **loop(reset="model.zero_grad()", mode="model.train(False)"),
    },
    "with the library": {
        **mixup_data(DRAW, "return torch.lerp(x[index], x, lam), y.clone(), y[index], torch.tensor(lam)"),
        **mixup_criterion(
            "losses = torch.stack([criterion(logits, y) for y in (y_a, y_b)])", "return losses @ torch.tensor([lam, 1 - lam])"
        ),
        **label_smoothing(
            "k = logits.shape[1]",
            "return F.cross_entropy(logits, y, label_smoothing=self.alpha * k / (k - 1))",
        ),
        "training-loop": """
def train_epoch(model, loader, optimizer, step_loss):
    model.train()
    losses, sizes = [], []
    for x, y in loader:
        loss = step_loss(model, x, y)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
        sizes.append(len(y))
    return np.average(losses, weights=sizes)


def evaluate(model, loader):
    before = model.training
    model.eval()
    loss = right = count = 0
    with torch.no_grad():
        for x, y in loader:
            logits = model(x)
            loss += F.cross_entropy(logits, y, reduction="sum")
            right += (logits.argmax(1) == y).sum()
            count += len(y)
    model.train(before)
    return float(loss / count), float(right / count)
""".strip(),
    },
    "step by step": {
        **mixup_data(
            DRAW,
            "mixed = x.clone()",
            "for i in range(len(x)):",
            "    mixed[i] = x[i] * lam + x[int(index[i])] * (1 - lam)",
            "return [mixed, y, torch.tensor([int(y[i]) for i in index]), lam]",
        ),
        **mixup_criterion(
            "first = criterion(logits, y_a)", "second = criterion(logits, y_b)", "return first * lam + second * (1.0 - lam)"
        ),
        **label_smoothing(
            "total = 0.0",
            "for row, target in zip(logits, y):",
            "    log_p = row - row.logsumexp(0)",
            "    for k in range(len(row)):",
            "        share = 1 - self.alpha if k == target else self.alpha / (len(row) - 1)",
            "        total = total - share * log_p[k]",
            "return total / len(y)",
        ),
        **loop(reset="for weight in model.parameters(): weight.grad = None"),
    },
}

# name -> (the changed cells, points of the graded cells that do not earn all)
_WRONG = {
    "nothing but stubs": (
        {
            **mixup_data(STUB),
            **mixup_criterion(STUB),
            **label_smoothing(STUB),
            **loop(reset="pass", weight="1", mode="pass"),
        },
        dict.fromkeys(POINTS, 0),
    ),
    "labels of the partners are not permuted": (
        mixup_data(DRAW, "return lam * x + (1 - lam) * x[index], y, y, lam"),
        {"test-mixup-data": 3},
    ),
    "labels the wrong way round": (
        mixup_data(DRAW, "return lam * x + (1 - lam) * x[index], y[index], y, lam"),
        {"test-mixup-data": 3},
    ),
    "λ on the wrong image": (
        mixup_data(DRAW, "return (1 - lam) * x + lam * x[index], y, y[index], lam"),
        {"test-mixup-data": 2},
    ),
    "the line that mixes is missing": (
        mixup_data(DRAW, "return x, y, y[index], lam"),
        {"test-mixup-data": 2},
    ),
    "the batch is changed in place": (
        mixup_data(DRAW, "partners = x[index]", "x *= lam", "x += (1 - lam) * partners", "return x, y, y[index], lam"),
        {"test-mixup-data": 3},
    ),
    "two draws": (
        mixup_data(
            "lam, _ = draw(alpha, len(x), rng)",
            "_, index = draw(alpha, len(x), rng)",
            "return lam * x + (1 - lam) * x[index], y, y[index], lam",
        ),
        {"test-mixup-data": 0},
    ),
    "labels become floats": (
        mixup_data(DRAW, "return lam * x + (1 - lam) * x[index], y.float(), y[index].float(), lam"),
        {"test-mixup-data": 3},
    ),
    "only images": (
        mixup_data(
            DRAW,
            "x = x.view(len(x), x.shape[1], x.shape[2], x.shape[3])",
            "return lam * x + (1 - lam) * x[index], y, y[index], lam",
        ),
        {"test-mixup-data": 3},
    ),
    "the criterion is built in": (
        mixup_criterion("return lam * F.cross_entropy(logits, y_a) + (1 - lam) * F.cross_entropy(logits, y_b)"),
        {"test-mixup-criterion": 1},
    ),
    "λ on the wrong labels": (
        mixup_criterion("return lam * criterion(logits, y_b) + (1 - lam) * criterion(logits, y_a)"),
        {"test-mixup-criterion": 0},
    ),
    "the gradient is lost": (
        {
            **mixup_criterion(
                "return torch.tensor(lam * criterion(logits, y_a).item() + (1 - lam) * criterion(logits, y_b).item())"
            ),
            **label_smoothing(SOFT, OTHERS, "return -(q * log_p.detach()).sum(1).mean()"),
        },
        {"test-mixup-criterion": 1, "test-label-smoothing": 3},
    ),
    "α spread over all classes": (
        label_smoothing(SOFT, "q = (1 - self.alpha) * one_hot + self.alpha / k", "return -(q * log_p).sum(1).mean()"),
        {"test-label-smoothing": 1},
    ),
    "torch's label_smoothing as it is": (
        label_smoothing("return F.cross_entropy(logits, y, label_smoothing=self.alpha)"),
        {"test-label-smoothing": 1},
    ),
    "no smoothing": (label_smoothing("return F.cross_entropy(logits, y)"), {"test-label-smoothing": 1}),
    "sum instead of mean": (
        label_smoothing(SOFT, OTHERS, "return -(q * log_p).sum()"),
        {"test-label-smoothing": 0},
    ),
    "ten classes taken for granted": (
        label_smoothing(
            SOFT, "q = (1 - self.alpha) * one_hot + self.alpha / 9 * (1 - one_hot)", "return -(q * log_p).sum(1).mean()"
        ),
        {"test-label-smoothing": 2},
    ),
    "the logarithm of a softmax": (
        label_smoothing(SOFT, OTHERS, "return -(q * logits.softmax(1).log()).sum(1).mean()"),
        {"test-label-smoothing": 3},
    ),
    "gradients are not reset": (loop(reset="pass"), {"test-training-loop": 4}),
    "the loss is divided wrongly": (loop(weight="1"), {"test-training-loop": 4}),
    "evaluation in training mode": (loop(mode="pass"), {"test-training-loop": 4}),
    "only evaluation repaired": (loop(reset="pass", weight="1"), {"test-training-loop": 2}),
    "the plain mean over the batches": (
        {"training-loop": loop(weight="1")["training-loop"].replace("count += len(y)", "count += 1")},
        {"test-training-loop": 4},
    ),
}
WRONG = {name: (changed, POINTS | earned) for name, (changed, earned) in _WRONG.items()}
