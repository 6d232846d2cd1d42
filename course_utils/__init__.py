"""The small shared package of the course. Its rooms are imported by name, ``from course_utils import data, train``.

Importing the package alone imports nothing. The rooms from the ground up; each imports only rooms before it:

- ``files``: files that are written whole or not at all, and words on streams that cannot show every character
- ``valid``: what arguments must be: class indices, numbers, probabilities
- ``runtime``: where and how large a lesson runs: profile, budget, device, seeds, progress
- ``parallel``: training shared out over the workers that torchrun started
- ``modes``: which parts of a network train, and which stay frozen
- ``data``: datasets as whole tensors with disjoint splits, and the loader that indexes them in batches
- ``audit``: the data as the network gets them
- ``augment``: augmentation and normalisation of whole batches, on the device
- ``models``: small reference networks for images, and an MLP
- ``techniques``: the techniques of the lessons in their reusable form
- ``metrics``: scores of classification, curves and their areas, errors of regression
- ``calibration``: whether probabilities can be trusted
- ``detection``: metrics of object detection
- ``precision``: how training computes: memory layout, 16-bit arithmetic, fused steps
- ``batches``: what batches, labels and logits may be, and the words for what is refused
- ``history``: what a run leaves behind, and the rule that says when to stop
- ``schedules``: when a learning-rate schedule moves, and whether it lasts
- ``checkpoint``: a run that can be stopped and go on
- ``train``: `fit`, `evaluate` and `predict`: one loop that knows no technique by name
- ``practical``: ResNet-18 by two recipes and in four arms, as the practical and the GPU benchmark train it
- ``experiment``: the form of every comparison: each condition with each seed, differences seed by seed
- ``plots``: figures that two lessons or more use
- ``equality``: whether two answers are the same value, whatever holds them
- ``check``: instant hints for exercises
- ``record``: claims of a lesson: measured values, and the rule they must meet
"""

__version__ = "0.2.0"
