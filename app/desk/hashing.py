"""How Streamlit's caches tell stores apart whose paths it cannot hash: by their address."""

from typing import Any

BY_ADDRESS: dict[str | type, Any] = {
    f"upath.implementations.{module}.{name}": str
    for module, name in (
        ("cloud", "S3Path"),
        ("cloud", "GCSPath"),
        ("cloud", "AzurePath"),
        ("memory", "MemoryPath"),
    )
}
"""For `hash_funcs` of every cached function that takes a store's root."""
