"""Community KD (section 4, Eq. 5, Table 2): a frozen pre-trained teacher and two students that also teach each other.

    ctcd train --config configs/community.py:smoke --workdir runs/community --config.data.corpus=runs/corpus \\
        --config.members.teacher.init=hf:runs/export/teacher
    ctcd export --workdir runs/community --member student1 --out runs/export/student1

Both students start from layers of the teacher ("parameter remapping", section 5.4); dropout alone makes them differ.
`paper` takes BERT-base (12 layers, 109 M parameters) from the hub and trains two 6-layer students (67 M) on the full
corpus for 3 epochs; the paper reports 81.40 and 81.34 GLUE dev average, against 80.33 for one-way distillation.
Other layers: --config.members.student1.init=layers:teacher#0,2,4, and student2 likewise; sizes come with them.
The corpus must be prepared with the teacher's tokenizer: `ctcd prepare --tokenizer DIR`.
"""

from ctcd_jax.config import base_config, edge, member

# Which of the teacher's layers the students copy. The paper's six are DistilBERT's; the others are ours.
LAYERS = {"smoke": "0", "tiny": "0,2,4,5", "small": "0,2,4,5", "paper": "0,2,4,7,9,11"}


def get_config(preset: str = "small"):
    config = base_config(preset)
    config.members.teacher = member(trainable=False)
    config.members.student1 = member(init=f"layers:teacher#{LAYERS[preset]}")
    config.members.student2 = member(init=f"layers:teacher#{LAYERS[preset]}")
    if preset == "paper":
        config.members.teacher.init = "hf:google-bert/bert-base-uncased"
        config.train.epochs = 3.0
    config.edges = (
        edge("teacher", "student1"),
        edge("teacher", "student2"),
        edge("student1", "student2"),
        edge("student2", "student1"),
    )
    return config
