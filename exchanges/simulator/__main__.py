from exchanges.simulator.cli import main

raise SystemExit(main())
