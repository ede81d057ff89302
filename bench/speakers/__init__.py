"""Who speaks when: error rates of diarization, and the conversations that they are measured on."""
