"""What the command line shows and asks: replies as they stream, the chat, the memory plan."""
