"""Step-matching slopes that the MoT paper prints (arXiv 2411.04996v2), figure by figure.

A slope is the share of the dense baseline's steps (figure 19: seconds) to the same loss; dense is
1. The paper does not say how it computes them, gives no seeds and no intervals. A dash is a value
that the paper does not print, or that can only be read off a picture.

Every table has a line per size (and setting of it), curve and modality, and a column per arm.
``detail`` is the held-out set of a validation loss, or how the model was trained.
"""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class PaperFigure:
    """One figure of the paper.

    Attributes:
        shows: what it shows.
        table: its slopes, as text; empty where it prints none.
        axis: ``steps`` or ``seconds``.
        facts: what the paper says of it beside the slopes.
    """

    shows: str
    table: str = ""
    axis: str = "steps"
    facts: tuple[str, ...] = ()


FIGURES: Mapping[str, PaperFigure] = {
    "figure_6": PaperFigure(
        "Chameleon, training loss",
        """
        size   curve  modality  detail  mot    moe_4x  moe_3x  moe_2x
        37M    train  image     -       0.260  0.496   0.342   0.794
        37M    train  text      -       0.546  0.591   0.795   0.713
        94M    train  image     -       0.199  0.358   0.449   0.457
        94M    train  text      -       0.530  0.531   0.619   0.752
        443M   train  image     -       0.271  0.490   0.582   0.635
        443M   train  text      -       0.610  0.731   0.893   1.127
        1.5B   train  image     -       0.350  0.745   0.672   0.619
        1.5B   train  text      -       0.662  0.713   0.830   0.990
        7B     train  image     -       0.348  1.012   -       -
        7B     train  text      -       0.558  0.635   -       -
        """,
    ),
    "figure_8": PaperFigure(
        "Chameleon+Speech, 7B, speech",
        """
        size   curve  modality  detail  mot    moe_4x
        7B     train  speech    -       0.229  -
        7B     val    speech    LL60K   0.313  0.979
        7B     val    speech    PPL30K  0.372  0.840
        """,
    ),
    "figure_9": PaperFigure(
        "Chameleon+Speech, training loss",
        """
        size   curve  modality  detail  mot    moe_4x
        443M   train  speech    -       0.151  -
        443M   train  image     -       0.262  0.566
        443M   train  text      -       0.557  0.749
        880M   train  speech    -       0.194  -
        880M   train  image     -       0.311  0.622
        880M   train  text      -       0.572  0.833
        1.5B   train  speech    -       0.199  -
        1.5B   train  image     -       0.336  0.763
        1.5B   train  text      -       0.595  0.747
        """,
    ),
    "figure_10": PaperFigure(
        "Transfusion, 7B, diffusion loss",
        """
        size   curve  modality  detail  mot    moe_4x
        7B     val    image     CC12M   0.374  1.042
        """,
    ),
    "figure_12": PaperFigure(
        "Transfusion, diffusion loss",
        """
        size   curve  modality  detail  mot    moe_4x
        163M   train  image     -       0.254  0.691
        163M   val    image     CC12M   0.286  0.914
        760M   train  image     -       0.176  0.595
        760M   val    image     CC12M   0.247  0.948
        1.4B   train  image     -       0.175  0.626
        1.4B   val    image     CC12M   0.231  0.914
        """,
        facts=("Figures 12 and 26 are of the same runs: images stand here, text there.",),
    ),
    "figure_14": PaperFigure(
        "component ablation, Chameleon 880M",
        facts=(
            "Its slopes are in a picture only. The text says that untying Q, K and V beside the "
            "feed-forward saves about 33.3% of the FLOPs for images and about 10% for text "
            "(validation on Obelics), and that untying the norms changes next to nothing.",
        ),
    ),
    "figure_15": PaperFigure(
        "Chameleon+Speech 443M, one modality isolated",
        """
        size   curve  modality  detail  mot    loo_text  loo_image  loo_speech
        443M   train  text      -       0.557  0.548     0.684      0.875
        443M   train  image     -       0.262  0.321     0.272      0.892
        443M   train  speech    -       0.151  0.304     0.653      0.147
        """,
        facts=(
            "Section 4.2 says that the run with images isolated has the lowest image loss; its "
            "slope is slightly above MoT's.",
        ),
    ),
    "figure_16": PaperFigure(
        "Chameleon 443M, MoT with experts in the text tower",
        """
        size   curve  modality  detail   mot_text_moe_4x  mot    moe_4x
        443M   train  text      -        0.431            0.610  0.731
        443M   train  image     -        0.263            -      -
        443M   val    text      Obelics  0.502            -      -
        443M   val    image     Obelics  0.284            -      -
        """,
        facts=("The figure is labelled 373M; its slopes are those of the 443M run.",),
    ),
    "figure_17": PaperFigure(
        "Transfusion 760M, MoT with experts in the text tower",
        """
        size   curve  modality  detail  mot_text_moe_4x
        760M   train  text      -       0.504
        760M   train  image     -       0.171
        """,
        facts=(
            "On held-out C4 and Wikipedia the text slope is .49 to .51 (MoE-4x .993 to 1.104).",
        ),
    ),
    "figure_18": PaperFigure(
        "Chameleon 443M, more GPUs and so more tokens per batch",
        """
        size   curve  modality  detail    mot
        443M   val    image     16_GPUs   0.421
        443M   val    image     32_GPUs   0.345
        443M   val    image     64_GPUs   0.294
        443M   val    image     256_GPUs  0.216
        443M   val    text      16_GPUs   0.757
        443M   val    text      32_GPUs   0.694
        443M   val    text      64_GPUs   0.639
        443M   val    text      256_GPUs  0.509
        """,
    ),
    "figure_19": PaperFigure(
        "Chameleon 7B, wall clock on 256 A100",
        """
        size   curve  modality  detail   mot    moe_4x
        7B     train  image     -        0.472  1.707
        7B     train  text      -        0.756  1.070
        7B     val    image     Obelics  0.584  2.002
        7B     val    text      Obelics  0.749  1.013
        """,
        axis="seconds",
        facts=(
            "Divided by figure 6's slopes in steps, these make a step of MoT 1.36 times, and one "
            "of MoE-4x 1.69 times, as long as dense's.",
        ),
    ),
    "figure_24": PaperFigure(
        "Chameleon, validation loss",
        """
        size   curve  modality  detail   mot    moe_4x
        37M    val    image     Obelics  0.250  2.750
        37M    val    text      Obelics  0.597  0.637
        94M    val    image     Obelics  0.225  1.159
        94M    val    text      Obelics  0.570  0.557
        443M   val    image     Obelics  0.294  0.694
        443M   val    text      Obelics  0.639  0.766
        1.5B   val    image     Obelics  0.382  0.856
        1.5B   val    text      Obelics  0.721  0.738
        7B     val    image     Obelics  0.431  1.187
        7B     val    text      Obelics  0.553  0.601
        """,
    ),
    "figure_26": PaperFigure(
        "Transfusion, text training loss",
        """
        size   curve  modality  detail  mot    moe_4x
        163M   train  text      -       0.980  0.268
        760M   train  text      -       0.970  0.495
        1.4B   train  text      -       0.926  0.559
        """,
        facts=("What MoE-4x gains in text training loss is gone in validation.",),
    ),
}
