from sae_circuits.cli import main

main()
