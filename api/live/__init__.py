"""Live audio: sessions over WebSocket, and an adapter for each protocol that they speak."""
