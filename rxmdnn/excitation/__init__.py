"""What acts on the atoms from outside: light, electrons and fields."""
