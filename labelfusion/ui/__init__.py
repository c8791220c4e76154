"""The app's parts: figures, page state and shared widgets. Holds no engine logic."""
