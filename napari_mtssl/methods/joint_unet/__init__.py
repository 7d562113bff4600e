"""Joint U-Net: mask and classes of whole images together (specimens)."""

from napari_mtssl.methods.joint_unet.config import JointUNetConfig
from napari_mtssl.methods.joint_unet.method import JointUNetMethod
from napari_mtssl.methods.joint_unet.samples import ImageSet

__all__ = ["ImageSet", "JointUNetConfig", "JointUNetMethod"]
