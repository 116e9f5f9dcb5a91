"""What flows between the packages: frozen dataclasses that check themselves on birth."""
