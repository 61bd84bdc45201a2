"""The kinds of prior that a world may have, by the `kind` of its config.json."""

from worldmodel.nn.kinds import Kinds
from worldmodel.prior.pixelcnn import PixelCNN, PriorConfig

PRIORS = Kinds("prior", pixelcnn=(PixelCNN, PriorConfig))
